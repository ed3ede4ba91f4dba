//! Rotary tables over the positions of text and image tokens.

use candle_core::{Device, Tensor};

use crate::error::Result;

const THETA: f64 = 10_000.0;

/// Cosines and sines of every token's rotation, (l, d_head / 2) in f32.
pub struct RotaryTables {
    /// Cosines.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
}

impl RotaryTables {
    /// Tables for `text_tokens` tokens at the origin, then an image of (rows, columns) tokens at (0, row, column).
    ///
    /// Angles are taken in f64, as diffusers does.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(
        axes: &[usize],
        text_tokens: usize,
        (rows, columns): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let image = (0..rows).flat_map(|y| (0..columns).map(move |x| [0, y, x]));
        let positions = std::iter::repeat_n([0; 3], text_tokens).chain(image);
        let mut angles = Vec::new();
        for position in positions {
            for (&channels, at) in axes.iter().zip(position) {
                let frequency = |i: usize| THETA.powf(-(2.0 * i as f64) / channels as f64);
                angles.extend((0..channels / 2).map(|i| at as f64 * frequency(i)));
            }
        }
        let shape = (text_tokens + rows * columns, axes.iter().sum::<usize>() / 2);
        let table = |f: fn(f64) -> f64| {
            Tensor::from_iter(angles.iter().map(|&a| f(a) as f32), device)?.reshape(shape)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }
}
