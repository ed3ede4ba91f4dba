//! Rotary position embedding (arXiv:2104.09864) over interleaved pairs, as FLUX applies it.

use candle_core::{D, DType, Tensor, WithDType};
use masuka_kernels::Number;
use masuka_kernels::rope::{HeadsShape, Rotation, Tokens, rotate};

use super::differentiable::{self, any_tracked};
use super::slices::{self, Kernel, new_tensor, with_slice, with_strides};
use crate::error::Result;

/// Rotates the pairs (x₀, x₁), (x₂, x₃), … of x (b, h, l, d) by the angles whose cosine and sine are (l, d/2).
///
/// # Errors
/// When the shapes disagree.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if any_tracked(&[x]) {
        return differentiable::rope(x, cos, sin);
    }
    if let Some(y) = slices::run_for(x, Rope { x, cos, sin }) {
        return y;
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

struct Rope<'a> {
    x: &'a Tensor,
    cos: &'a Tensor,
    sin: &'a Tensor,
}

impl Kernel for Rope<'_> {
    type Output = Tensor;

    /// The result lies in memory as (b, l, h, d).
    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        let (b, h, l, d) = self.x.dims4()?;
        let tables = (l, d / 2);
        let (cos, sin) = (self.cos.broadcast_as(tables)?, self.sin.broadcast_as(tables)?);
        // Heads of a token beside each other, whatever the distance of tokens.
        let is_by_token = self.x.stride()[1] == d || h == 1;
        let x = if is_by_token { self.x.clone() } else { by_token(self.x)? };
        let y = with_strides::<T, _>(&x, |x, strides| {
            let x = Tokens { data: x, stride: strides[2], batch_stride: strides[0] };
            with_slice(&cos, |cos| {
                with_slice(&sin, |sin| {
                    new_tensor((b, l, h, d), |y: &mut [T]| {
                        let mut y = Tokens { data: y, stride: h * d, batch_stride: l * h * d };
                        let rotation = Rotation { norm: None, cos, sin };
                        rotate(HeadsShape { b, l, h, d }, &x, &rotation, &mut y);
                        Ok(())
                    })
                })
            })
        })?;
        Ok(y.transpose(1, 2)?) // (b, h, l, d)
    }
}

/// x (b, h, l, d), copied to lie in memory as (b, l, h, d).
fn by_token(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?.transpose(1, 2)?)
}
