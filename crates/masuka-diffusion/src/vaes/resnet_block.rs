//! Two convolutions, each after a norm, and a way around them.

use candle_core::Tensor;

use super::bands::{BandWriter, RowSource, Walk, bands, gather_moments};
use crate::error::Result;
use crate::layers::{Conv2d, GroupNorm};
use crate::ops::{Conv2dArgs, GroupMoments};
use crate::weights::Weights;

/// The epsilon of every norm of the autoencoder.
pub(super) const EPS: f64 = 1e-6;

/// x + conv(silu(norm(conv(silu(norm(x)))))), with a 1×1 convolution on the way around where the channels change.
pub(super) struct ResnetBlock {
    out_channels: usize,
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub fn load(
        weights: &Weights,
        groups: usize,
        in_channels: usize,
        out_channels: usize,
    ) -> Result<Self> {
        let (c_in, c_out) = (in_channels, out_channels);
        let conv = |name, c_in, kernel| {
            Conv2d::load(&weights.at(name), c_in, c_out, kernel, Conv2dArgs::same_size(kernel))
        };
        Ok(Self {
            out_channels,
            norm1: GroupNorm::load(&weights.at("norm1"), groups, c_in, EPS)?,
            conv1: conv("conv1", c_in, 3)?,
            norm2: GroupNorm::load(&weights.at("norm2"), groups, c_out, EPS)?,
            conv2: conv("conv2", c_out, 3)?,
            conv_shortcut: (c_in != c_out).then(|| conv("conv_shortcut", c_in, 1)).transpose()?,
        })
    }

    /// x (1, c_in, y, x) as (1, c_out, y, x); x may be overwritten.
    pub fn forward(&self, x: &dyn RowSource, walk: Walk<'_>) -> Result<Tensor> {
        walk.proceed()?;
        let (c_in, height, width) = x.size()?;
        let row_bytes = c_in.max(self.out_channels) * width * size_of::<f32>();
        match walk.tiling.rows(height, row_bytes) {
            Some(rows) => self.forward_in_bands(x, rows, walk),
            None => self.forward_whole(&x.rows(0..height)?),
        }
    }

    fn forward_whole(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden(x, &self.norm1.moments(x)?)?;
        let moments = self.norm2.moments(&hidden)?;
        self.output(x, hidden, &moments)
    }

    /// As [`forward_whole`](Self::forward_whole), with nothing whole but the input and the output.
    fn forward_in_bands(&self, x: &dyn RowSource, rows: usize, walk: Walk<'_>) -> Result<Tensor> {
        let (_, height, _) = x.size()?;
        let moments1 = gather_moments(bands(height, rows, 0), walk, |band| {
            self.norm1.moments(&x.rows(band.seen())?)
        })?;
        let moments2 = gather_moments(bands(height, rows, 1), walk, |band| {
            let hidden = self.hidden(&x.rows(band.seen())?, &moments1)?;
            self.norm2.moments(&band.trim(&hidden)?)
        })?;
        let mut output = match x.reusable() {
            Some(x) if self.conv_shortcut.is_none() => BandWriter::over(x)?,
            _ => BandWriter::new(height),
        };
        for band in bands(height, rows, 2) {
            walk.proceed()?;
            let x = x.rows(band.seen())?;
            let y = self.output(&x, self.hidden(&x, &moments1)?, &moments2)?;
            output.write(&band, band.trim(&y)?)?;
        }
        output.finish()
    }

    /// The first half, x (1, c_in, y, x) as (1, c_out, y, x).
    fn hidden(&self, x: &Tensor, moments: &GroupMoments) -> Result<Tensor> {
        self.conv1.forward_normed(x.clone(), (&self.norm1, moments), None)
    }

    /// The second half, and the way around both.
    fn output(&self, x: &Tensor, hidden: Tensor, moments: &GroupMoments) -> Result<Tensor> {
        let around = self.conv_shortcut.as_ref().map(|conv| conv.forward(x)).transpose()?;
        let around = around.as_ref().unwrap_or(x);
        self.conv2.forward_normed(hidden, (&self.norm2, moments), Some(around))
    }
}
