//! Time, guidance and the pooled prompt, embedded and summed to the vector that modulates every block.

use candle_core::Tensor;

use super::FluxConfig;
use crate::error::Result;
use crate::layers::{Bias, Linear, timestep_embedding};
use crate::ops;
use crate::weights::Weights;

/// Channels of the sinusoids.
const SINUSOIDS: usize = 256;
/// Sigmas and guidance (0…1, 0…20) are embedded on the scale of training timesteps.
const TIME_FACTOR: f32 = 1000.0;

/// The embedding of everything that is one vector a picture.
pub(super) struct VectorEmbedding {
    timestep: Mlp,
    guidance: Option<Mlp>,
    text: Mlp,
}

impl VectorEmbedding {
    pub(super) fn load(weights: &Weights, config: &FluxConfig) -> Result<Self> {
        let d = config.hidden_size();
        let guidance = config
            .guidance_embeds
            .then(|| Mlp::load(&weights.at("guidance_embedder"), SINUSOIDS, d))
            .transpose()?;
        Ok(Self {
            timestep: Mlp::load(&weights.at("timestep_embedder"), SINUSOIDS, d)?,
            guidance,
            text: Mlp::load(&weights.at("text_embedder"), config.pooled_projection_dim, d)?,
        })
    }

    /// The part that no step changes, (b, d), of the pooled prompts (b, p) and their guidance scales.
    pub(super) fn prompt(&self, pooled: &Tensor, guidance: &[f32]) -> Result<Tensor> {
        let text = self.text.forward(pooled)?; // (b, d)
        match &self.guidance {
            None => Ok(text),
            Some(mlp) => {
                let scaled: Vec<f32> = guidance.iter().map(|g| g * TIME_FACTOR).collect();
                Ok(text.broadcast_add(&mlp.forward(&sinusoids(&scaled, pooled)?)?)?)
            }
        }
    }

    /// The embedded times (b, d) of `sigmas`, in the dtype of `like`.
    pub(super) fn time(&self, sigmas: &[f32], like: &Tensor) -> Result<Tensor> {
        // The division and the product do not cancel in f32: the reference passes timestep / 1000.
        let timestep = |sigma: &f32| sigma * TIME_FACTOR / TIME_FACTOR * TIME_FACTOR;
        let timesteps: Vec<f32> = sigmas.iter().map(timestep).collect();
        self.timestep.forward(&sinusoids(&timesteps, like)?)
    }
}

/// The sinusoids (b, 256) of `timesteps`, on the device and in the dtype of `like`.
fn sinusoids(timesteps: &[f32], like: &Tensor) -> Result<Tensor> {
    let sinusoids = timestep_embedding(timesteps, SINUSOIDS, like.device())?;
    Ok(sinusoids.to_dtype(like.dtype())?)
}

/// linear_2 · silu · linear_1.
struct Mlp {
    linear_1: Linear,
    linear_2: Linear,
}

impl Mlp {
    fn load(weights: &Weights, in_features: usize, d: usize) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::load(&weights.at("linear_1"), in_features, d, Bias::Yes)?,
            linear_2: Linear::load(&weights.at("linear_2"), d, d, Bias::Yes)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.linear_2.forward(&ops::silu(&self.linear_1.forward(x)?)?)
    }
}
