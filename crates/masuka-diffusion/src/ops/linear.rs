//! Matrix products with a weight in PyTorch's layout.

use std::sync::Arc;

use candle_core::{DType, Tensor};

#[cfg(feature = "cuda")]
use super::{Activation, Gate, differentiable::LoraTensors, gated_add};
use super::{PackedWeight, Then};
use crate::error::Result;

/// x (…, in) · weightᵀ (out, in) + bias (out) as (…, out), summed in f32.
///
/// # Errors
/// When the shapes disagree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_features, in_features) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out_features;
    }
    let rows = x.reshape(((), in_features))?; // (rows, in)
    let y = match bias {
        // The bias is added before rounding, as a fused kernel would.
        Some(bias) if x.dtype() != DType::F32 && x.device().is_cpu() => rows
            .to_dtype(DType::F32)?
            .matmul(&weight.to_dtype(DType::F32)?.t()?)?
            .broadcast_add(&bias.to_dtype(DType::F32)?)?
            .to_dtype(x.dtype())?,
        Some(bias) => rows.matmul(&weight.t()?)?.broadcast_add(bias)?,
        None => rows.matmul(&weight.t()?)?,
    };
    Ok(y.reshape(shape)?) // (…, out)
}

/// A weight (out, in) that is not trained.
#[derive(Debug, Clone)]
pub enum FrozenWeight {
    /// As a tensor.
    Dense(Tensor),
    /// Packed for the processor.
    Packed(Arc<PackedWeight>),
}

impl FrozenWeight {
    /// `weight` (out, in), packed where that is of use; the tensor is given up then.
    ///
    /// # Errors
    /// When it is no matrix.
    pub fn new(weight: Tensor) -> Result<Self> {
        Ok(match PackedWeight::pack(&weight)? {
            Some(packed) => Self::Packed(Arc::new(packed)),
            None => Self::Dense(weight),
        })
    }

    /// x (…, in) · weightᵀ and what follows, as (…, out) of `dtype`. Low-rank updates are for packed weights alone.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor, then: &Then<'_>, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Dense(_) if !then.loras.is_empty() => {
                let message = "a packed LoRA beside a weight that is not packed".into();
                Err(candle_core::Error::Msg(message).into())
            }
            Self::Dense(weight) => {
                #[cfg(feature = "cuda")]
                if let Some(y) = self.forward_on_card(x, &[], then, dtype)? {
                    return Ok(y);
                }
                let y = linear(&x.to_dtype(weight.dtype())?, weight, then.bias)?.to_dtype(dtype)?;
                Then { bias: None, ..*then }.apply(y)
            }
            Self::Packed(weight) => weight.forward(x, then, dtype),
        }
    }

    /// As [`forward`](Self::forward) with low-rank updates, by the kernels of an NVIDIA card; none where they do not apply.
    ///
    /// # Errors
    /// When the shapes disagree.
    #[cfg(feature = "cuda")]
    pub(crate) fn forward_on_card(
        &self,
        x: &Tensor,
        loras: &[LoraTensors<'_>],
        then: &Then<'_>,
        dtype: DType,
    ) -> Result<Option<Tensor>> {
        let (Self::Dense(weight), None | Some(Activation::GeluTanh)) = (self, then.activation)
        else {
            return Ok(None);
        };
        let (x, gelu) = (x.to_dtype(weight.dtype())?, then.activation.is_some());
        let Some(y) = super::cuda::linear(&x, weight, then.bias, loras, gelu)? else {
            return Ok(None);
        };
        Ok(Some(match then.gated {
            Some(Gate { gate, residual }) => gated_add(residual, gate, &y)?, // in f32, as the residual
            None => y.to_dtype(dtype)?,
        }))
    }

    /// grad (…, out) · weight as (…, in).
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(weight) => {
                let (out_features, in_features) = weight.dims2()?;
                let mut shape = grad.dims().to_vec();
                if let Some(last) = shape.last_mut() {
                    *last = in_features;
                }
                let rows = grad.contiguous()?.reshape(((), out_features))?; // (rows, out)
                Ok(rows.matmul(&weight.to_dtype(grad.dtype())?)?.reshape(shape)?)
            }
            Self::Packed(weight) => weight.backward(grad),
        }
    }
}
