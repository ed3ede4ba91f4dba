//! The operations of a transformer with their gradients, for training. Forward passes are those of inference; what is
//! written here is the vector-Jacobian product of each: from the gradient of a result to those of its inputs.
//!
//! Weights of the base model are constants: no time is spent on their gradients.

mod graph; // ties a result to its inputs
mod rows; // plain loops of the processor, one pass each
mod linear; // x · Wᵀ + b with at most one trained LoRA
mod norm; // LayerNorm with modulation, RMSNorm
mod attention; // scaled dot-product attention, one chunk of scores at a time
mod elementwise; // GELU, gated residuals, rotary embedding

pub(crate) use attention::attention;
pub(crate) use elementwise::{gated_add, gelu_tanh, rope};
pub(crate) use linear::{LoraTensors, linear};
pub(crate) use norm::{modulated_layer_norm, rms_norm};

use candle_core::{DType, Tensor};

use crate::error::Result;

/// A scalar that stands above `output`: its gradient with respect to `output` is `grad`.
///
/// # Errors
/// When the device fails.
pub fn seed(output: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let scalar = Tensor::zeros((), DType::F32, output.device())?;
    let grad = grad.detach();
    graph::link1(output, scalar, move |_| Ok(grad.clone()))
}

/// Whether a gradient may be asked through any of `tensors`.
pub(crate) fn any_tracked(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|tensor| tensor.track_op())
}
