//! Elementwise functions: activations in the variants that checkpoints name, gated residuals.

use candle_core::{DType, Tensor, WithDType};
use masuka_kernels::Number;
use masuka_kernels::elementwise::{self, Activation};

use super::differentiable::{self, any_tracked};
use super::slices::{self, Kernel, new_tensor, with_slice};
use crate::error::Result;

/// GELU by its tanh approximation (`gelu_new`, `gelu-approximate`; arXiv:1606.08415).
///
/// # Errors
/// When the device fails.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::GeluTanh)
}

/// GELU by the error function (`gelu`).
///
/// # Errors
/// When the device fails.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::GeluErf)
}

/// x · sigmoid(1.702 x), CLIP's GELU.
///
/// # Errors
/// When the device fails.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::QuickGelu)
}

/// x · sigmoid(x), also called swish.
///
/// # Errors
/// When the device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::Silu)
}

/// x + gate · y for x and y (b, l, d) and gate (b, d).
///
/// # Errors
/// When the shapes disagree.
pub fn gated_add(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    if any_tracked(&[x, gate, y]) {
        return differentiable::gated_add(x, gate, y);
    }
    if gate.dtype() == x.dtype()
        && y.dtype() == x.dtype()
        && let Some(sum) = slices::run_for(x, GatedAdd { x, gate, y })
    {
        return sum;
    }
    #[cfg(feature = "cuda")]
    if let Some(sum) = super::cuda::gated_add(x, gate, y)? {
        return Ok(sum);
    }
    let gate = gate.to_dtype(DType::F32)?.unsqueeze(1)?; // (b, 1, d)
    let gated = y.to_dtype(DType::F32)?.broadcast_mul(&gate)?;
    Ok((x.to_dtype(DType::F32)? + gated)?.to_dtype(x.dtype())?)
}

/// By the processor's kernel, else by candle in f32.
pub(super) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if activation == Activation::GeluTanh && any_tracked(&[x]) {
        return differentiable::gelu_tanh(x);
    }
    if let Some(y) = slices::run_for(x, Activate { x, activation }) {
        return y;
    }
    let x32 = x.to_dtype(DType::F32)?;
    let y = match activation {
        Activation::GeluTanh => x32.gelu()?,
        Activation::GeluErf => x32.gelu_erf()?,
        Activation::QuickGelu => (&x32 * candle_nn::ops::sigmoid(&(&x32 * 1.702)?)?)?,
        Activation::Silu => x32.silu()?,
    };
    Ok(y.to_dtype(x.dtype())?)
}

struct Activate<'a> {
    x: &'a Tensor,
    activation: Activation,
}

impl Kernel for Activate<'_> {
    type Output = Tensor;

    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        with_slice::<T, _>(self.x, |x| {
            new_tensor(self.x.shape(), |y| {
                elementwise::activate(self.activation, x, y);
                Ok(())
            })
        })
    }
}

struct GatedAdd<'a> {
    x: &'a Tensor,
    gate: &'a Tensor,
    y: &'a Tensor,
}

impl Kernel for GatedAdd<'_> {
    type Output = Tensor;

    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        let (b, _, d) = self.x.dims3()?;
        let gate = self.gate.broadcast_as((b, d))?;
        let y = self.y.broadcast_as(self.x.shape())?;
        with_slice::<T, _>(self.x, |x| {
            with_slice(&gate, |gate| {
                with_slice(&y, |y| {
                    new_tensor(self.x.shape(), |sum| {
                        elementwise::gated_add(x, gate, y, d, sum);
                        Ok(())
                    })
                })
            })
        })
    }
}
