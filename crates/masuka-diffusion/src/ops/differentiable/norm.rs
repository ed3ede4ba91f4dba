//! Gradients of the normalisations, taken in f32.

use candle_core::{D, DType, Tensor};

use super::graph::{Gradients, link1, link3};
use super::rows::{self, LayerNormRows, new_tensor, with_slices};
use crate::error::Result;
use crate::ops;

/// [`ops::modulated_layer_norm`] of x (b, l, d) by scale and shift (b, d), as `dtype`.
///
/// # Errors
/// When the shapes disagree.
pub(crate) fn modulated_layer_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
    dtype: DType,
) -> Result<Tensor> {
    let (x_, scale_) = (x.detach(), scale.detach());
    let y = ops::modulated_layer_norm(&x_, &scale_, &shift.detach(), eps, dtype)?;
    let modulation_needs = scale.track_op() || shift.track_op();
    let (dtype, modulation_dtype) = (x.dtype(), scale.dtype());
    link3([x, scale, shift], y, move |_, grad| {
        if x_.device().is_cpu() {
            return plain_layer_norm(&x_, &scale_, grad, eps, modulation_needs);
        }
        let x = x_.to_dtype(DType::F32)?;
        let grad = grad.to_dtype(DType::F32)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let inverse = (variance + eps)?.sqrt()?.recip()?; // (b, l, 1)
        let normal = centred.broadcast_mul(&inverse)?;
        let factor = (scale_.to_dtype(DType::F32)? + 1.0)?.unsqueeze(1)?; // (b, 1, d)
        let scaled = grad.broadcast_mul(&factor)?;
        let along = (&scaled * &normal)?.mean_keepdim(D::Minus1)?;
        let dx = scaled
            .broadcast_sub(&scaled.mean_keepdim(D::Minus1)?)?
            .sub(&normal.broadcast_mul(&along)?)?
            .broadcast_mul(&inverse)?
            .to_dtype(dtype)?;
        if !modulation_needs {
            return Ok([Some(dx), None, None]);
        }
        let dscale = (&grad * &normal)?.sum(1)?.to_dtype(modulation_dtype)?; // (b, d)
        let dshift = grad.sum(1)?.to_dtype(modulation_dtype)?; // (b, d)
        Ok([Some(dx), Some(dscale), Some(dshift)])
    })
}

/// [`ops::rms_norm`] of x (…, d) by a constant weight (d), as `dtype`.
///
/// # Errors
/// When the shapes disagree.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, dtype: DType) -> Result<Tensor> {
    let x_ = x.detach();
    let y = ops::rms_norm(&x_, weight, eps, dtype)?;
    let weight = weight.to_dtype(DType::F32)?;
    let dtype = x.dtype();
    link1(x, y, move |grad| {
        if x_.device().is_cpu() {
            return with_slices([&x_, &weight, grad], |[x, weight, grad]| {
                new_tensor(x_.shape(), dtype, |dx| rows::rms_norm(x, weight, grad, eps as f32, dx))
            });
        }
        let x = x_.to_dtype(DType::F32)?;
        let inverse = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?; // (…, 1)
        let normal = x.broadcast_mul(&inverse)?;
        let scaled = grad.to_dtype(DType::F32)?.broadcast_mul(&weight)?;
        let along = (&scaled * &normal)?.mean_keepdim(D::Minus1)?;
        let dx = (scaled - normal.broadcast_mul(&along)?)?.broadcast_mul(&inverse)?;
        Ok(dx.to_dtype(dtype)?)
    })
}

/// The gradients of the modulated LayerNorm by plain loops.
fn plain_layer_norm(
    x: &Tensor,
    scale: &Tensor,
    grad: &Tensor,
    eps: f64,
    modulation_needs: bool,
) -> Result<Gradients<3>> {
    let (b, length, width) = x.dims3()?;
    let (shape, dtype, modulation_dtype) = (x.shape(), x.dtype(), scale.dtype());
    with_slices([x, scale, grad], |[x, scale, grad]| {
        let rows = LayerNormRows { x, scale, grad, length, width, eps: eps as f32 };
        let dx = new_tensor(shape, dtype, |dx| rows.dx(dx))?;
        if !modulation_needs {
            return Ok([Some(dx), None, None]);
        }
        let (dscale, dshift) = rows.dmodulation();
        let vector = |values: Vec<f32>| {
            Tensor::from_vec(values, (b, width), dx.device())?.to_dtype(modulation_dtype)
        };
        let (dscale, dshift) = (vector(dscale)?, vector(dshift)?);
        Ok([Some(dx), Some(dscale), Some(dshift)])
    })
}
