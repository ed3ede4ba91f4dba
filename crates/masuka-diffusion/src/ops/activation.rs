//! Elementwise functions: activations in the variants that checkpoints name, gated residuals.

use candle_core::{DType, Tensor};

use super::differentiable::{self, any_tracked};
use crate::error::Result;

/// GELU by its tanh approximation (`gelu_new`, `gelu-approximate`; arXiv:1606.08415).
///
/// # Errors
/// When the device fails.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if any_tracked(&[x]) {
        return differentiable::gelu_tanh(x);
    }
    in_f32(x, Tensor::gelu)
}

/// GELU by the error function (`gelu`).
///
/// # Errors
/// When the device fails.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    in_f32(x, Tensor::gelu_erf)
}

/// x · sigmoid(1.702 x), CLIP's GELU.
///
/// # Errors
/// When the device fails.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)
}

/// x · sigmoid(x), also called swish.
///
/// # Errors
/// When the device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    in_f32(x, Tensor::silu)
}

/// x + gate · y for x and y (b, l, d) and gate (b, d).
///
/// # Errors
/// When the shapes disagree.
pub fn gated_add(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    if any_tracked(&[x, gate, y]) {
        return differentiable::gated_add(x, gate, y);
    }
    let gate = gate.to_dtype(DType::F32)?.unsqueeze(1)?; // (b, 1, d)
    let gated = y.to_dtype(DType::F32)?.broadcast_mul(&gate)?;
    Ok((x.to_dtype(DType::F32)? + gated)?.to_dtype(x.dtype())?)
}

fn in_f32(x: &Tensor, f: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>) -> Result<Tensor> {
    Ok(f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?)
}
