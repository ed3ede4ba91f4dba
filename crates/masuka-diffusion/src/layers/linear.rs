//! The one linear layer: dense or quantised weights, bias, and the LoRA branches of its slot.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::adapters::{AdapterSlot, Branch};
use crate::error::{Error, Result};
use crate::ops::{FrozenWeight, differentiable};
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
    /// In which it multiplies.
    dtype: DType,
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
        Ok(Self { weight, bias, dtype: weights.dtype(), adapters })
    }

    /// x (…, in) as (…, out), in the dtype of x.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, x.dtype())
    }

    /// x (…, in) as (…, out) in f32.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_f32(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, DType::F32)
    }

    fn forward_as(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        let branches = self.adapters.branches();
        if x.track_op() || branches.iter().any(Branch::is_trained) {
            return self.forward_trained(x, &branches, dtype);
        }
        let y = self.base(x, dtype)?;
        if branches.is_empty() {
            return Ok(y);
        }
        let x = x.to_dtype(self.dtype)?;
        self.adapters.add_to(y, &x, &|x| self.base(x, self.dtype))
    }

    /// The layer without its adapters.
    fn base(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        match &self.weight {
            LinearWeight::Frozen(weight) => weight.forward(x, self.bias.as_ref(), dtype),
            LinearWeight::Quantized(blocks) => {
                // Expanded for the length of one product: exact, and one layer's weights at a time.
                let weight = blocks.dequantize(x.device())?.to_dtype(self.dtype)?;
                FrozenWeight::new(weight)?.forward(x, self.bias.as_ref(), dtype)
            }
        }
    }

    /// As [`forward`](Self::forward), with gradients for `x` and the one branch that may be trained.
    fn forward_trained(&self, x: &Tensor, branches: &[Branch], dtype: DType) -> Result<Tensor> {
        let LinearWeight::Frozen(weight) = &self.weight else {
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
        differentiable::linear(x, weight, self.bias.as_ref(), lora, dtype)
    }
}
