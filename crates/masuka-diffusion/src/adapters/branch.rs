//! An update beside its layer, computing.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::delta::{Delta, Matrix};
use super::update::LoraUpdate;
use crate::error::Result;
use crate::ops::PackedLora;
use crate::ops::differentiable::LoraTensors;

/// One low-rank update: y += scale · (x · Aᵀ) · Bᵀ.
#[derive(Debug, Clone)]
pub struct LoraBranch {
    /// The down projection A, (rank, in).
    pub down: Tensor,
    /// The up projection B, (out, rank).
    pub up: Tensor,
    /// The user's weight times alpha / rank.
    pub scale: f64,
}

/// By what the adapted weight is longer than its layer's own weight plus the delta (DoRA).
#[derive(Debug, Clone)]
pub(super) enum Gain {
    /// Of each output channel (out); the bias, which is not stretched, is taken off as (gain − 1) · bias.
    Rows { gain: Tensor, bias: Option<Tensor> },
    /// Of each input channel (in).
    Columns(Tensor),
}

/// What one adapter adds to the output of one layer, on the layer's device and in its dtype.
#[derive(Debug, Clone)]
pub struct Branch {
    delta: Option<Delta>,
    /// A delta of low rank, where nothing else comes with it and the processor computes; instead of `delta`.
    packed: Option<Arc<PackedLora>>,
    bias: Option<Tensor>,
    gain: Option<Gain>,
    /// Of the delta: alpha / rank.
    scale: f64,
    /// The user's, of everything.
    weight: f64,
}

impl From<LoraBranch> for Branch {
    fn from(LoraBranch { down, up, scale }: LoraBranch) -> Self {
        let delta = Some(Delta::Plain(Matrix::Product { up, down }));
        Self { delta, packed: None, bias: None, gain: None, scale, weight: 1.0 }
    }
}

impl Branch {
    /// The branch of `update` with weight 1. That of a linear layer is packed where that is of use.
    pub(super) fn new(
        update: &LoraUpdate,
        gain: Option<Gain>,
        is_linear: bool,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let place = |tensor: &Tensor| Ok(tensor.to_device(device)?.to_dtype(dtype)?);
        let gain = match gain {
            Some(Gain::Rows { gain, bias }) => {
                let bias = bias.as_ref().map(place).transpose()?;
                Some(Gain::Rows { gain: place(&gain)?, bias })
            }
            Some(Gain::Columns(gain)) => Some(Gain::Columns(place(&gain)?)),
            None => None,
        };
        let delta = update.delta.as_ref().map(|delta| delta.map(&place)).transpose()?;
        let bias = update.bias.as_ref().map(place).transpose()?;
        let packed = match (&delta, &bias, &gain) {
            (Some(Delta::Plain(Matrix::Product { up, down })), None, None) if is_linear => {
                PackedLora::pack(up, down)?.map(Arc::new)
            }
            _ => None,
        };
        let delta = delta.filter(|_| packed.is_none());
        Ok(Self { delta, packed, bias, gain, scale: update.scale(), weight: 1.0 })
    }

    /// What the layer's kernel adds in its own pass, and by which factor; none if that is not all.
    pub(crate) fn packed(&self) -> Option<(&PackedLora, f32)> {
        Some((self.packed.as_deref()?, (self.weight * self.scale) as f32))
    }

    /// The same with the user's weight.
    pub(super) fn weighted(&self, weight: f64) -> Self {
        Self { weight, ..self.clone() }
    }

    /// Whether gradients are asked of it.
    pub(crate) fn is_trained(&self) -> bool {
        let low_rank = self.delta.as_ref().and_then(Delta::low_rank);
        low_rank.is_some_and(|(up, down)| up.track_op() || down.track_op())
    }

    /// What its gradient needs; none if it is more than LoRA.
    pub(crate) fn tensors(&self) -> Option<LoraTensors<'_>> {
        match (&self.delta, &self.bias, &self.gain) {
            (Some(Delta::Plain(Matrix::Product { up, down })), None, None) => {
                Some(LoraTensors { down, up, scale: self.weight * self.scale })
            }
            _ => None,
        }
    }

    /// What is added to the weight, multiplied out.
    pub(super) fn difference(&self) -> Result<Option<Tensor>> {
        let Some(delta) = &self.delta else { return Ok(None) };
        Ok(Some(delta.dense(self.weight * self.scale)?))
    }

    /// What is added to a layer's output: x (n, in), the layer's own `base_y` (n, out) and `base`, which computes that
    /// of other inputs.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        base_y: &Tensor,
        base: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (w, s) = (self.weight, self.scale);
        let sum = match &self.gain {
            None => self.low_rank(x, w * s)?,
            Some(Gain::Rows { gain, bias }) => {
                let delta = self.low_rank(x, w * s)?.unwrap_or(base_y.zeros_like()?);
                let stretched = (base_y * w)?.broadcast_add(&delta)?.broadcast_mul(gain)?;
                let sum = (stretched - (base_y * w)?)?;
                Some(match bias {
                    Some(bias) => sum.broadcast_sub(&(bias * w)?)?,
                    None => sum,
                })
            }
            Some(Gain::Columns(gain)) => {
                let stretched = x.broadcast_mul(gain)?;
                let sum = ((base(&stretched)? - base_y)? * w)?;
                Some(match self.low_rank(&stretched, w * s)? {
                    Some(delta) => (sum + delta)?,
                    None => sum,
                })
            }
        };
        match (sum, &self.bias) {
            (Some(sum), Some(bias)) => Ok(sum.broadcast_add(&(bias * w)?)?),
            (Some(sum), None) => Ok(sum),
            (None, Some(bias)) => Ok((bias * w)?.broadcast_as(base_y.shape())?),
            (None, None) => Ok(base_y.zeros_like()?),
        }
    }

    /// The delta's part, scaled.
    fn low_rank(&self, x: &Tensor, scale: f64) -> Result<Option<Tensor>> {
        if let Some(packed) = &self.packed {
            return Ok(Some(packed.forward(x, scale)?));
        }
        let Some(delta) = &self.delta else { return Ok(None) };
        Ok(Some(match delta {
            // The hidden side is the smaller one.
            Delta::Plain(Matrix::Product { up, down }) => {
                (x.matmul(&down.t()?)? * scale)?.matmul(&up.t()?)?
            }
            delta => (delta.forward(x)? * scale)?,
        }))
    }
}
