//! Normalisations. All statistics are taken in f32, whatever the dtype of the input.

use candle_core::{D, DType, Tensor};

use super::differentiable::{self, any_tracked};
use crate::error::Result;

/// LayerNorm over the last axis with optional weight and bias (d).
///
/// # Errors
/// When the shapes disagree.
pub fn layer_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let mut y = standardize(&x.to_dtype(DType::F32)?, eps)?;
    if let Some(weight) = weight {
        y = y.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    }
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(DType::F32)?)?;
    }
    Ok(y.to_dtype(x.dtype())?)
}

/// LayerNorm without weights of x (b, l, d), then · (1 + scale) + shift with scale and shift (b, d).
///
/// # Errors
/// When the shapes disagree.
pub fn modulated_layer_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    if any_tracked(&[x, scale, shift]) {
        return differentiable::modulated_layer_norm(x, scale, shift, eps);
    }
    let y = standardize(&x.to_dtype(DType::F32)?, eps)?;
    let scale = (scale.to_dtype(DType::F32)? + 1.0)?.unsqueeze(1)?; // (b, 1, d)
    let shift = shift.to_dtype(DType::F32)?.unsqueeze(1)?; // (b, 1, d)
    Ok(y.broadcast_mul(&scale)?.broadcast_add(&shift)?.to_dtype(x.dtype())?)
}

/// RMSNorm over the last axis (arXiv:1910.07467): x / sqrt(mean(x²) + eps) · weight.
///
/// # Errors
/// When the shapes disagree.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if any_tracked(&[x]) {
        return differentiable::rms_norm(x, weight, eps);
    }
    let x32 = x.to_dtype(DType::F32)?;
    let mean_square = x32.sqr()?.mean_keepdim(D::Minus1)?;
    let y = x32.broadcast_div(&(mean_square + eps)?.sqrt()?)?;
    Ok(y.broadcast_mul(&weight.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?)
}

/// (x - mean) / sqrt(var + eps) over the last axis, with the biased variance.
fn standardize(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + eps)?.sqrt()?)?)
}
