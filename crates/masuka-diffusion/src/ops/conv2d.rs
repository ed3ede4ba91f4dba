//! Convolution on pictures (b, c, y, x).

use candle_core::{DType, Tensor};

use crate::error::Result;

/// How a convolution walks over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dArgs {
    /// Distance between outputs, in pixels.
    pub stride: usize,
    /// Zeros added on every side, in pixels.
    pub padding: usize,
}

/// x (b, c_in, y, x) with weight (c_out, c_in, ky, kx) and bias (c_out).
///
/// # Errors
/// When the shapes disagree.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, args: Conv2dArgs) -> Result<Tensor> {
    // candle has no 16-bit convolution on a processor.
    let compute = if x.device().is_cpu() { DType::F32 } else { x.dtype() };
    let bias = bias.to_dtype(compute)?.reshape((1, (), 1, 1))?;
    let y = x
        .to_dtype(compute)?
        .conv2d(&weight.to_dtype(compute)?, args.padding, args.stride, 1, 1)?
        .broadcast_add(&bias)?;
    Ok(y.to_dtype(x.dtype())?)
}

/// Every pixel of x (b, c, y, x) four times, as (b, c, 2y, 2x).
///
/// # Errors
/// When the device fails.
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    Ok(x.upsample_nearest2d(2 * height, 2 * width)?)
}
