//! Sinusoidal embedding of timesteps (arXiv:2006.11239), cosines first.

use candle_core::{DType, Device, Tensor};

use crate::error::Result;

/// Longest period of the sinusoids, in timesteps.
const MAX_PERIOD: f64 = 10_000.0;

/// The embedding (b, channels) in f32 of `timesteps`, given on the scale 0…1000.
///
/// # Errors
/// When the device fails.
pub fn timestep_embedding(timesteps: &[f32], channels: usize, device: &Device) -> Result<Tensor> {
    let half = channels / 2;
    let frequency = |i: usize| (-MAX_PERIOD.ln() as f32 * i as f32 / half as f32).exp();
    let mut embedding = Vec::with_capacity(timesteps.len() * channels);
    for &t in timesteps {
        embedding.extend((0..half).map(|i| (t * frequency(i)).cos()));
        embedding.extend((0..half).map(|i| (t * frequency(i)).sin()));
    }
    let embedding = Tensor::from_vec(embedding, (timesteps.len(), 2 * half), device)?;
    Ok(embedding.to_dtype(DType::F32)?)
}
