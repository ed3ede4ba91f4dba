//! The last norm and convolution of either side of the autoencoder.

use candle_core::Tensor;

use super::bands::{BandWriter, RowSource, Walk, bands, gather_moments};
use super::resnet_block::EPS;
use crate::error::Result;
use crate::layers::{Conv2d, GroupNorm};
use crate::ops::{Conv2dArgs, GroupMoments};
use crate::weights::Weights;

/// conv(silu(norm(x))).
pub(super) struct Head {
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Head {
    /// Loads `conv_norm_out` and `conv_out` from where `weights` stands.
    pub fn load(weights: &Weights, groups: usize, c_in: usize, c_out: usize) -> Result<Self> {
        let conv_out = weights.at("conv_out");
        Ok(Self {
            conv_norm_out: GroupNorm::load(&weights.at("conv_norm_out"), groups, c_in, EPS)?,
            conv_out: Conv2d::load(&conv_out, c_in, c_out, 3, Conv2dArgs::same_size(3))?,
        })
    }

    /// x (1, c_in, y, x) as (1, c_out, y, x).
    pub fn forward(&self, x: &Tensor, walk: Walk<'_>) -> Result<Tensor> {
        walk.proceed()?;
        let (c_in, height, width) = x.size()?;
        let Some(rows) = walk.tiling.rows(height, c_in * width * size_of::<f32>()) else {
            return self.convolve(x, &self.conv_norm_out.moments(x)?);
        };
        let moments = gather_moments(bands(height, rows, 0), walk, |band| {
            self.conv_norm_out.moments(&x.rows(band.seen())?)
        })?;
        let mut output = BandWriter::new(height);
        for band in bands(height, rows, 1) {
            walk.proceed()?;
            output.write(&band, band.trim(&self.convolve(&x.rows(band.seen())?, &moments)?)?)?;
        }
        output.finish()
    }

    fn convolve(&self, x: &Tensor, moments: &GroupMoments) -> Result<Tensor> {
        self.conv_out.forward_normed(x.clone(), (&self.conv_norm_out, moments), None)
    }
}
