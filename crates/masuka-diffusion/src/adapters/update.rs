//! What an adapter does to one layer.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::BaseLayer;
use super::delta::{Delta, Matrix, select_rows};
use super::origin::Origin;
use crate::error::Result;

/// The norms that DoRA (arXiv:2402.09353) gives the adapted weight.
#[derive(Debug, Clone)]
pub enum Magnitude {
    /// Of its rows, (out), as PEFT and LyCORIS have it.
    Rows(Tensor),
    /// Of its columns, (in), as the paper and OneTrainer have it.
    Columns(Tensor),
}

/// An update of one layer, in the dtype of its file.
#[derive(Debug, Clone)]
pub struct LoraUpdate {
    /// What is added to the weight, before alpha / rank; none if only the bias changes.
    pub delta: Option<Delta>,
    /// Whether `delta` is the weight to come to, not what is added to it: a norm's in control LoRAs.
    pub replaces: bool,
    /// What is added to the bias, (out).
    pub bias: Option<Tensor>,
    /// Alpha and the rank that divides it; none where the delta is taken as it is.
    pub scaling: Option<Scaling>,
    /// The norms of the adapted weight, if they are trained too.
    pub magnitude: Option<Magnitude>,
    /// The file's name of the module, for messages.
    pub module: String,
    /// The tensors of the file that its shape comes from, for messages.
    pub origin: Origin,
    /// How many tensors of the file this stands for: of a module that is several layers, the first stands for all.
    pub tensors: usize,
}

/// The update is scaled by alpha / rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// Alpha.
    pub alpha: f64,
    /// The rank.
    pub rank: usize,
}

impl LoraUpdate {
    /// What the delta is multiplied by.
    pub fn scale(&self) -> f64 {
        self.scaling.map_or(1.0, |scaling| scaling.alpha / scaling.rank as f64)
    }

    /// (out, in) of the weight that it fits; none if it has no delta.
    ///
    /// # Errors
    /// When a factor is no matrix.
    pub fn shape(&self) -> Result<Option<(usize, usize)>> {
        self.delta.as_ref().map(Delta::shape).transpose()
    }

    /// Whether it is LoRA and nothing else.
    pub fn is_plain(&self) -> bool {
        let low_rank = self.delta.as_ref().is_some_and(|delta| delta.low_rank().is_some());
        low_rank && self.bias.is_none() && self.magnitude.is_none()
    }

    /// The whole difference of the weight (out, in) in f32, DoRA's norms left out.
    ///
    /// # Errors
    /// When the factors' shapes disagree.
    pub fn dense(&self) -> Result<Option<Tensor>> {
        let Some(delta) = &self.delta else { return Ok(None) };
        Ok(Some((delta.dense_rows(0..delta.shape()?.0)? * self.scale())?))
    }

    /// The same as a difference from `base`.
    pub(super) fn relative_to(&self, base: &BaseLayer) -> Result<Self> {
        let Some(delta) = self.delta.as_ref().filter(|_| self.replaces) else {
            return Ok(self.clone());
        };
        let wanted = delta.dense(1.0)?.to_dtype(DType::F32)?;
        let base = base.weight.to_dtype(DType::F32)?.to_device(wanted.device())?;
        let difference = (&wanted - base.reshape(wanted.shape())?)?;
        let delta = Some(Delta::Plain(Matrix::Whole(difference)));
        Ok(Self { delta, replaces: false, ..self.clone() })
    }

    /// The update of a layer whose output is those rows of this one's.
    pub(super) fn select(&self, ranges: &[Range<usize>]) -> Result<Self> {
        let magnitude = match &self.magnitude {
            Some(Magnitude::Rows(rows)) => Some(Magnitude::Rows(select_rows(rows, ranges)?)),
            other => other.clone(),
        };
        Ok(Self {
            delta: self.delta.as_ref().map(|delta| delta.select(ranges)).transpose()?,
            bias: self.bias.as_ref().map(|bias| select_rows(bias, ranges)).transpose()?,
            magnitude,
            ..self.clone()
        })
    }

    /// Without the ranks at both ends to which `up` gives no weight: what a layer got from a module in which several
    /// layers' updates were joined block by block. None if nothing is left.
    pub(super) fn trimmed(self) -> Result<Option<Self>> {
        let Some((up, down)) = self.delta.as_ref().and_then(Delta::low_rank) else {
            return Ok(Some(self));
        };
        let used = up.to_dtype(DType::F32)?.abs()?.max(0)?.to_vec1::<f32>()?;
        let first = used.iter().position(|largest| *largest > 0.0);
        let (Some(first), Some(last)) = (first, used.iter().rposition(|largest| *largest > 0.0))
        else {
            return Ok(None);
        };
        let rank = last + 1 - first;
        if rank == used.len() {
            return Ok(Some(self));
        }
        let up = up.narrow(1, first, rank)?.contiguous()?;
        let down = down.narrow(0, first, rank)?.contiguous()?;
        let scaling =
            self.scaling.map(|s| Scaling { alpha: s.alpha * rank as f64 / s.rank as f64, rank });
        Ok(Some(Self { delta: Some(Delta::Plain(Matrix::Product { up, down })), scaling, ..self }))
    }
}
