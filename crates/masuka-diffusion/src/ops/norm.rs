//! Normalisations. All statistics are taken in f32, whatever the dtype of the input.

use candle_core::{D, DType, Tensor, WithDType};
use half::bf16;
use masuka_kernels::Number;
use masuka_kernels::norm::{self, Affine};

use super::differentiable::{self, any_tracked};
use super::slices::{self, Kernel, is_for_kernels, new_tensor, with_slice};
use crate::error::Result;

/// LayerNorm over the last axis with optional weight and bias (d), as `dtype`.
///
/// # Errors
/// When the shapes disagree.
pub fn layer_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
    dtype: DType,
) -> Result<Tensor> {
    if is_for_kernels(x) {
        let factor = match weight {
            Some(weight) => slices::to_f32(weight)?,
            None => vec![1.0; x.dim(D::Minus1)?],
        };
        let summand = bias.map(slices::to_f32).transpose()?.unwrap_or_default();
        return normalize(x, &factor, Some(&summand), eps, dtype);
    }
    let mut y = standardize(&x.to_dtype(DType::F32)?, eps)?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    }
    Ok(y.to_dtype(dtype)?)
}

/// LayerNorm without weights of x (b, l, d), then · (1 + scale) + shift with scale and shift (b, d), as `dtype`.
///
/// # Errors
/// When the shapes disagree.
pub fn modulated_layer_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
    dtype: DType,
) -> Result<Tensor> {
    if any_tracked(&[x, scale, shift]) {
        return differentiable::modulated_layer_norm(x, scale, shift, eps, dtype);
    }
    if is_for_kernels(x) {
        let factor: Vec<f32> = slices::to_f32(scale)?.iter().map(|scale| 1.0 + scale).collect();
        return normalize(x, &factor, Some(&slices::to_f32(shift)?), eps, dtype);
    }
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::modulated_layer_norm(x, scale, shift, eps, dtype)? {
        return Ok(y);
    }
    let y = standardize(&x.to_dtype(DType::F32)?, eps)?;
    let scale = (scale.to_dtype(DType::F32)? + 1.0)?.unsqueeze(1)?; // (b, 1, d)
    let shift = shift.to_dtype(DType::F32)?.unsqueeze(1)?; // (b, 1, d)
    Ok(y.broadcast_mul(&scale)?.broadcast_add(&shift)?.to_dtype(dtype)?)
}

/// RMSNorm over the last axis (arXiv:1910.07467): x / sqrt(mean(x²) + eps) · weight, as `dtype`.
///
/// # Errors
/// When the shapes disagree.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, dtype: DType) -> Result<Tensor> {
    if any_tracked(&[x]) {
        return differentiable::rms_norm(x, weight, eps, dtype);
    }
    if is_for_kernels(x) {
        return normalize(x, &slices::to_f32(weight)?, None, eps, dtype);
    }
    let x32 = x.to_dtype(DType::F32)?;
    let mean_square = x32.sqr()?.mean_keepdim(D::Minus1)?;
    let y = x32.broadcast_div(&(mean_square + eps)?.sqrt()?)?;
    Ok(y.broadcast_mul(&weight.to_dtype(DType::F32)?)?.to_dtype(dtype)?)
}

/// (x - mean) / sqrt(var + eps) over the last axis, with the biased variance.
fn standardize(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + eps)?.sqrt()?)?)
}

/// On the processor: LayerNorm by a factor and a summand (b, d), or RMSNorm by a factor (d) where the summand is none.
fn normalize(
    x: &Tensor,
    factor: &[f32],
    summand: Option<&[f32]>,
    eps: f64,
    dtype: DType,
) -> Result<Tensor> {
    let d = x.dim(D::Minus1)?;
    let b = factor.len() / d.max(1);
    let is_shared = b == 1 || x.dim(0)? == b;
    if factor.len() != b * d || b == 0 || !is_shared {
        let message = format!("{} factors for numbers of shape {:?}", factor.len(), x.dims());
        return Err(candle_core::Error::Msg(message).into());
    }
    let kernel = Normalize { x, factor, summand, eps: eps as f32, dtype };
    slices::run_for(x, kernel)
        .unwrap_or_else(|| Err(candle_core::Error::Msg("not on the processor".into()).into()))
}

struct Normalize<'a> {
    x: &'a Tensor,
    factor: &'a [f32],
    summand: Option<&'a [f32]>,
    eps: f32,
    dtype: DType,
}

impl Kernel for Normalize<'_> {
    type Output = Tensor;

    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        match self.dtype {
            DType::BF16 => self.into::<T, bf16>(),
            dtype => Ok(self.into::<T, f32>()?.to_dtype(dtype)?),
        }
    }
}

impl Normalize<'_> {
    fn into<T: Number + WithDType, Y: Number + WithDType>(self) -> Result<Tensor> {
        let d = self.x.dim(D::Minus1)?;
        with_slice::<T, _>(self.x, |x| {
            new_tensor(self.x.shape(), |y: &mut [Y]| {
                match self.summand {
                    Some(summand) => {
                        let affine = Affine { factor: self.factor, summand };
                        norm::layer_norm(x, d, self.eps, &affine, y);
                    }
                    None => norm::rms_norm(x, self.factor, self.eps, y),
                }
                Ok(())
            })
        })
    }
}
