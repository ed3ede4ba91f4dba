//! The one linear layer: dense or quantised weights, bias, and the LoRA branches of its slot.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::trained::{TrainedLinear, TrainedLora, Trains};
use crate::adapters::{AdapterSlot, Branch};
use crate::error::{Error, Result};
use crate::ops::differentiable::{self, LoraTensors};
use crate::ops::{self, Columns, FrozenWeight, Gate, PackedLora, Packing, Then};
use crate::weights::{LinearWeight, Weights};

/// Whether a layer has a bias in its checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// `weight` and `bias`.
    Yes,
    /// `weight` alone.
    No,
}

const GELU: Then<'_> =
    Then { loras: &[], bias: None, activation: Some(ops::Activation::GeluTanh), gated: None };

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

    /// GELU (tanh) of the layer's output, in the dtype of x.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, &GELU, x.dtype())
    }

    /// As [`forward_gelu`](Self::forward_gelu), to the next columns of a wider tensor.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn gelu_into(&self, x: &Tensor, to: &mut Columns) -> Result<()> {
        let branches = self.adapters.branches();
        match (&self.weight, self.in_one_pass(x, &branches)) {
            (LinearWeight::Frozen(FrozenWeight::Packed(weight)), Some(loras)) => {
                let then = Then { loras: &loras, bias: self.bias.as_ref(), ..GELU };
                weight.forward_into(x, &then, to)
            }
            _ => to.put(&self.forward_gelu(x)?),
        }
    }

    /// residual + gate · the layer's output, in f32, for x (b, l, in), gate (b, out) and residual (b, l, out).
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_gated(&self, x: &Tensor, gate: Gate<'_>) -> Result<Tensor> {
        self.forward_then(x, &Then { gated: Some(gate), ..Then::default() }, DType::F32)
    }

    /// Whether gradients of the layer's output may be asked for.
    pub fn is_trained(&self) -> bool {
        self.adapters.branches().iter().any(Branch::is_trained)
    }

    /// The branches, if the product and they can be one pass.
    fn in_one_pass<'a>(
        &self,
        x: &Tensor,
        branches: &'a [Branch],
    ) -> Option<Vec<(&'a PackedLora, f32)>> {
        if x.track_op() || !(branches.is_empty() || x.dtype() == self.dtype) {
            return None;
        }
        branches.iter().map(Branch::packed).collect()
    }

    fn forward_as(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        self.forward_then(x, &Then::default(), dtype)
    }

    fn forward_then(&self, x: &Tensor, then: &Then<'_>, dtype: DType) -> Result<Tensor> {
        let branches = self.adapters.branches();
        let is_tracked = then.gated.is_some_and(|gated| gated.residual.track_op());
        if let Some(loras) = self.in_one_pass(x, &branches)
            && !is_tracked
        {
            return self.base(x, &Then { loras: &loras, ..*then }, dtype);
        }
        #[cfg(feature = "cuda")]
        if let (Some(loras), LinearWeight::Frozen(weight)) = (low_rank(&branches), &self.weight) {
            let then = Then { bias: self.bias.as_ref(), ..*then };
            if let Some(y) = weight.forward_on_card(x, &loras, &then, dtype)? {
                return Ok(y);
            }
        }
        let y = if x.track_op() || branches.iter().any(Branch::is_trained) {
            self.forward_trained(x, &branches, dtype)?
        } else {
            let y = self.base(x, &Then::default(), dtype)?;
            let x = x.to_dtype(self.dtype)?;
            self.adapters.add_to(y, &x, &|x| self.base(x, &Then::default(), self.dtype))?
        };
        then.apply(y)
    }

    /// The layer without its adapters, and what follows.
    fn base(&self, x: &Tensor, then: &Then<'_>, dtype: DType) -> Result<Tensor> {
        let then = Then { bias: self.bias.as_ref(), ..*then };
        match &self.weight {
            LinearWeight::Frozen(weight) => weight.forward(x, &then, dtype),
            LinearWeight::Quantized(blocks) => {
                // Expanded for the length of one product: exact, and one layer's weights at a time.
                match Packing::of(self.dtype).filter(|_| x.device().is_cpu()) {
                    Some(packing) => ops::pack_blocks(blocks, packing)?.forward(x, &then, dtype),
                    None => {
                        let weight = blocks.dequantize(x.device())?.to_dtype(self.dtype)?;
                        FrozenWeight::new(weight)?.forward(x, &then, dtype)
                    }
                }
            }
        }
    }

    /// As [`forward`](Self::forward), with gradients for `x` and the one branch that may be trained.
    fn forward_trained(&self, x: &Tensor, branches: &[Branch], dtype: DType) -> Result<Tensor> {
        let weight = self.frozen()?;
        differentiable::linear(x, weight, self.bias.as_ref(), one_lora(branches)?, dtype)
    }

    /// The layer on the processor for a pass whose gradients are asked for.
    ///
    /// # Errors
    /// When the weight is not packed in the numbers of `T`, or more than one LoRA stands beside it.
    pub(crate) fn trained<T: Trains>(&self) -> Result<TrainedLinear<'_, T>> {
        let packed = match self.frozen()? {
            FrozenWeight::Packed(weight) => Some(&**weight),
            FrozenWeight::Dense(_) => None,
        };
        let weight = packed.and_then(|packed| Some((packed, T::weight(packed)?)));
        let Some((packed, weight)) = weight else {
            let message = "cannot be trained on; use one in f32 or bf16";
            return Err(Error::invalid("base_model", format!("{packed:?}"), message));
        };
        let lora = one_lora(&self.adapters.branches())?
            .map(|lora| TrainedLora::new(lora.down, lora.up, lora.scale))
            .transpose()?;
        Ok(TrainedLinear { packed, weight, bias: self.bias.as_ref(), lora })
    }

    fn frozen(&self) -> Result<&FrozenWeight> {
        let LinearWeight::Frozen(weight) = &self.weight else {
            let message = "a quantised model cannot be trained on; use one in f32 or bf16";
            return Err(Error::invalid("base_model", "in GGUF", message));
        };
        Ok(weight)
    }
}

/// All of `branches`, if each is a low-rank update and nothing else.
#[cfg(feature = "cuda")]
fn low_rank(branches: &[Branch]) -> Option<Vec<LoraTensors<'_>>> {
    branches.iter().map(Branch::tensors).collect()
}

/// The one LoRA of a layer under training.
fn one_lora(branches: &[Branch]) -> Result<Option<LoraTensors<'_>>> {
    match branches {
        [] => Ok(None),
        [one] => {
            let more = || Error::invalid("adapter", "of another kind", "is no LoRA to train");
            Ok(Some(one.tensors().ok_or_else(more)?))
        }
        more => {
            let rule = "is more than the one adapter that can be trained at a time";
            Err(Error::invalid("adapters", more.len(), rule))
        }
    }
}
