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
        let positions: Vec<[usize; 3]> =
            std::iter::repeat_n([0; 3], text_tokens).chain(image).collect();
        let shape = (positions.len(), axes.iter().sum::<usize>() / 2);
        let table = |f: fn(f64) -> f64| {
            // Many tokens share a row or a column, so each is computed once.
            let lines: Vec<_> =
                axes.iter().map(|&axis| lines(axis, rows.max(columns), f)).collect();
            let mut numbers = Vec::with_capacity(shape.0 * shape.1);
            for position in &positions {
                for (line, &at) in lines.iter().zip(position) {
                    numbers.extend_from_slice(&line[at]);
                }
            }
            Tensor::from_vec(numbers, shape, device)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }
}

/// `f` of the angles of an axis of `channels` channels at positions 0, 1, … `count` - 1.
fn lines(channels: usize, count: usize, f: fn(f64) -> f64) -> Vec<Vec<f32>> {
    let frequency = |i: usize| THETA.powf(-(2.0 * i as f64) / channels as f64);
    let frequencies: Vec<f64> = (0..channels / 2).map(frequency).collect();
    let line = |at: usize| frequencies.iter().map(|x| f(at as f64 * x) as f32).collect();
    (0..count.max(1)).map(line).collect()
}
