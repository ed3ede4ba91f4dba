//! Rotary position embedding (arXiv:2104.09864) over interleaved pairs, as FLUX applies it.

use candle_core::{D, DType, Tensor};

use super::differentiable::{self, any_tracked};
use crate::error::Result;

/// Rotates the pairs (x₀, x₁), (x₂, x₃), … of x (b, h, l, d) by the angles whose cosine and sine are (l, d/2).
///
/// # Errors
/// When the shapes disagree.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if any_tracked(&[x]) {
        return differentiable::rope(x, cos, sin);
    }
    let (b, h, l, d) = x.dims4()?;
    let pairs = x.to_dtype(DType::F32)?.reshape((b, h, l, d / 2, 2))?;
    let even = pairs.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?; // (b, h, l, d/2)
    let odd = pairs.narrow(D::Minus1, 1, 1)?.squeeze(D::Minus1)?; // (b, h, l, d/2)
    let rotated_even = (even.broadcast_mul(cos)? - odd.broadcast_mul(sin)?)?;
    let rotated_odd = (odd.broadcast_mul(cos)? + even.broadcast_mul(sin)?)?;
    let rotated = Tensor::stack(&[rotated_even, rotated_odd], D::Minus1)?; // (b, h, l, d/2, 2)
    Ok(rotated.reshape((b, h, l, d))?.to_dtype(x.dtype())?)
}
