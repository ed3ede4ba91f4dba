//! Convolution with its weights.

use candle_core::Tensor;

use crate::error::Result;
use crate::ops::{self, Conv2dArgs};
use crate::weights::Weights;

/// A square convolution of pictures (b, c, y, x).
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    args: Conv2dArgs,
}

impl Conv2d {
    /// Loads `weight` (out, in, kernel, kernel) and `bias` (out).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        weights: &Weights,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        args: Conv2dArgs,
    ) -> Result<Self> {
        let weight = weights.tensor("weight", &[out_channels, in_channels, kernel, kernel])?;
        let bias = weights.tensor("bias", &[out_channels])?;
        Ok(Self { weight, bias, args })
    }

    /// x (b, c_in, y, x) as (b, c_out, y', x').
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, &self.bias, self.args)
    }
}
