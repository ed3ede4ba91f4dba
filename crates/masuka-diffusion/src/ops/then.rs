//! What follows a product: low-rank updates, bias, activation, gate and residual.

use candle_core::Tensor;
use masuka_kernels::elementwise::Activation;

use super::PackedLora;
use super::activation::{activate, gated_add};
use crate::error::Result;

/// What follows a product, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Then<'a> {
    /// Low-rank updates with their scales, for rows in the dtype of their A.
    pub loras: &'a [(&'a PackedLora, f32)],
    /// (out)
    pub bias: Option<&'a Tensor>,
    /// The activation.
    pub activation: Option<Activation>,
    /// Gate and residual.
    pub gated: Option<Gate<'a>>,
}

/// residual + gate · y
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// (b, out)
    pub gate: &'a Tensor,
    /// (b, l, out)
    pub residual: &'a Tensor,
}

impl<'a> Then<'a> {
    /// A bias alone.
    pub fn bias(bias: Option<&'a Tensor>) -> Self {
        Self { bias, ..Self::default() }
    }

    /// All but the low-rank updates, to a product `y` (b, l, out) in passes of their own, as gradients and other devices need it.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn apply(&self, y: Tensor) -> Result<Tensor> {
        let y = match self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(y.dtype())?)?,
            None => y,
        };
        let y = match self.activation {
            Some(activation) => activate(&y, activation)?,
            None => y,
        };
        match self.gated {
            Some(Gate { gate, residual }) => gated_add(residual, gate, &y),
            None => Ok(y),
        }
    }
}
