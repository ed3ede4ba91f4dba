//! The one linear layer: dense or quantised weights, bias, and the LoRA branches of its slot.

use std::sync::Arc;

use candle_core::Tensor;

use crate::adapters::{AdapterSlot, Branch};
use crate::error::{Error, Result};
use crate::ops::{self, differentiable};
use crate::weights::{LinearWeight, Weights};

/// Whether a layer has a bias in its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// `weight` and `bias`.
    Yes,
    /// `weight` alone.
    No,
}

/// y = x · Wᵀ + b + Σ LoRA.
pub struct Linear {
    weight: LinearWeight,
    bias: Option<Tensor>,
    adapters: Arc<AdapterSlot>,
}

impl Linear {
    /// Loads `weight` (out, in) and `bias` (out) from where `weights` stands.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        weights: &Weights,
        in_features: usize,
        out_features: usize,
        bias: Bias,
    ) -> Result<Self> {
        let weight = weights.linear_weight("weight", [out_features, in_features])?;
        let bias = match bias {
            Bias::Yes => Some(weights.tensor("bias", &[out_features])?),
            Bias::No => None,
        };
        let adapters = weights.adapter_slot(in_features, out_features);
        Ok(Self { weight, bias, adapters })
    }

    /// x (…, in) as (…, out).
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let branches = self.adapters.branches();
        if x.track_op() || branches.iter().any(Branch::is_trained) {
            return self.forward_trained(x, &branches);
        }
        self.adapters.add_to(self.base(x)?, x, &|x| self.base(x))
    }

    /// The layer without its adapters.
    fn base(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            LinearWeight::Dense(weight) => ops::linear(x, weight, self.bias.as_ref()),
            LinearWeight::Quantized(blocks) => {
                // Expanded for the length of one product: exact, and one layer's weights at a time.
                let weight = blocks.dequantize(x.device())?.to_dtype(x.dtype())?;
                ops::linear(x, &weight, self.bias.as_ref())
            }
        }
    }

    /// As [`forward`](Self::forward), with gradients for `x` and the one branch that may be trained.
    fn forward_trained(&self, x: &Tensor, branches: &[Branch]) -> Result<Tensor> {
        let LinearWeight::Dense(weight) = &self.weight else {
            let message = "a quantised model cannot be trained on; use one in f32 or bf16";
            return Err(Error::invalid("base_model", "in GGUF", message));
        };
        let lora = match branches {
            [] => None,
            [one] => {
                let more = || Error::invalid("adapter", "of another kind", "is no LoRA to train");
                Some(one.tensors().ok_or_else(more)?)
            }
            more => {
                let rule = "is more than the one adapter that can be trained at a time";
                return Err(Error::invalid("adapters", more.len(), rule));
            }
        };
        differentiable::linear(x, weight, self.bias.as_ref(), lora)
    }
}
