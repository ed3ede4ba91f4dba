//! The operations of a transformer with their gradients, for training. Forward passes are those of inference; what is
//! written here is the vector-Jacobian product of each: from the gradient of a result to those of its inputs.
//!
//! Weights of the base model are constants: no time is spent on their gradients.

mod graph; // ties a result to its inputs
mod linear; // x · Wᵀ + b with at most one trained LoRA
mod norm; // LayerNorm with modulation, RMSNorm
mod attention; // scaled dot-product attention, one chunk of scores at a time
mod elementwise; // GELU, gated residuals, rotary embedding

pub(crate) use attention::attention;
pub(crate) use elementwise::{gated_add, gelu_tanh, rope};
pub(crate) use linear::{LoraTensors, linear};
pub(crate) use norm::{modulated_layer_norm, rms_norm};

use candle_core::Tensor;

/// Whether a gradient may be asked through any of `tensors`.
pub(crate) fn any_tracked(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|tensor| tensor.track_op())
}
