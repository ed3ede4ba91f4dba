//! Rotary position embedding (arXiv:2104.09864) over interleaved pairs, as FLUX applies it.

use candle_core::{D, DType, Tensor, WithDType};
use masuka_kernels::Number;
use masuka_kernels::rope::{HeadsShape, Rotation, Tokens, rotate};

use super::differentiable::{self, any_tracked};
use super::rms_norm;
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

/// The heads of some tokens, before their norm.
#[derive(Debug, Clone)]
pub struct HeadsPart {
    /// (b, l, h, d)
    pub x: Tensor,
    /// The weight (d) of the RMSNorm of every head.
    pub weight: Tensor,
}

/// RMSNorm of every head of all `parts`, joined along their tokens and rotated as by [`rope`]: (b, h, Σl, d).
///
/// # Errors
/// When the shapes disagree.
pub fn norm_rope(parts: &[HeadsPart], eps: f64, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let is_plain = |part: &HeadsPart| slices::is_for_kernels(&part.x) && !part.x.track_op();
    match parts {
        [first, ..] if parts.iter().all(is_plain) => {
            let kernel = NormRope { parts, eps: eps as f32, cos, sin };
            let none = || Err(candle_core::Error::Msg("not on the processor".into()).into());
            slices::run_for(&first.x, kernel).unwrap_or_else(none)
        }
        _ => {
            #[cfg(feature = "cuda")]
            if let Some(y) = super::cuda::norm_rope(parts, eps, cos, sin)? {
                return Ok(y);
            }
            let norm = |part: &HeadsPart| rms_norm(&part.x, &part.weight, eps, part.x.dtype());
            let normed = parts.iter().map(norm).collect::<Result<Vec<_>>>()?;
            rope(&Tensor::cat(&normed, 1)?.transpose(1, 2)?, cos, sin)
        }
    }
}

struct NormRope<'a> {
    parts: &'a [HeadsPart],
    eps: f32,
    cos: &'a Tensor,
    sin: &'a Tensor,
}

impl Kernel for NormRope<'_> {
    type Output = Tensor;

    /// The result lies in memory as (b, l, h, d).
    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        let (b, _, h, d) = self.parts[0].x.dims4()?;
        let lengths =
            self.parts.iter().map(|part| Ok(part.x.dim(1)?)).collect::<Result<Vec<_>>>()?;
        let l: usize = lengths.iter().sum();
        let (cos, sin) = (self.cos.broadcast_as((l, d / 2))?, self.sin.broadcast_as((l, d / 2))?);
        let y = with_slice(&cos, |cos| {
            with_slice(&sin, |sin| {
                new_tensor((b, l, h, d), |y: &mut [T]| {
                    let mut before = 0;
                    for (part, l_part) in self.parts.iter().zip(lengths) {
                        let weight = slices::to_f32(&part.weight)?;
                        let tables = before * d / 2..;
                        let (cos, sin) = (&cos[tables.clone()], &sin[tables]);
                        let rotation = Rotation { norm: Some((&weight, self.eps)), cos, sin };
                        let to = &mut y[before * h * d..];
                        let mut to = Tokens { data: to, stride: h * d, batch_stride: l * h * d };
                        with_slice::<T, _>(&part.x.broadcast_as((b, l_part, h, d))?, |x| {
                            let batch_stride = l_part * h * d;
                            let x = Tokens { data: x, stride: h * d, batch_stride };
                            rotate(HeadsShape { b, l: l_part, h, d }, &x, &rotation, &mut to);
                            Ok(())
                        })?;
                        before += l_part;
                    }
                    Ok(())
                })
            })
        })?;
        Ok(y.transpose(1, 2)?) // (b, h, l, d)
    }
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn norm_and_rotation_of_joined_parts_are_the_same_in_one_pass() {
        let random = |shape: &[usize]| Tensor::randn(0.0_f32, 1.0, shape, &Device::Cpu).unwrap();
        let (cos, sin) = (random(&[7, 4]), random(&[7, 4]));
        let part = |l| HeadsPart { x: random(&[2, l, 3, 8]), weight: random(&[8]) };
        let parts = [part(2), part(5)];
        let found = norm_rope(&parts, 1e-6, &cos, &sin).unwrap();

        let norm = |part: &HeadsPart| rms_norm(&part.x, &part.weight, 1e-6, DType::F32).unwrap();
        let joined = Tensor::cat(&parts.each_ref().map(norm), 1).unwrap();
        let expected = rope(&joined.transpose(1, 2).unwrap(), &cos, &sin).unwrap();
        assert_eq!(found.dims(), [2, 3, 7, 8]);
        let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
        // A few roundings of numbers below 20.
        assert!(difference.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
    }
}
