//! Where a layer keeps its side branches. Switching adapters swaps the list; the weights are not touched.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::Tensor;

use super::Branch;
use crate::error::Result;

/// The adapters of one linear layer or norm, shared between the layer and whoever switches adapters.
#[derive(Debug)]
pub struct AdapterSlot {
    in_features: usize,
    out_features: usize,
    is_linear: bool,
    branches: RwLock<Arc<Vec<Branch>>>,
}

impl AdapterSlot {
    /// An empty slot of a layer (out, in).
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Self { in_features, out_features, is_linear: true, branches: RwLock::default() }
    }

    /// An empty slot of a norm, whose weight (d) counts as a matrix (d, 1).
    pub fn of_norm(channels: usize) -> Self {
        Self { is_linear: false, ..Self::new(1, channels) }
    }

    /// Whether the layer multiplies by a matrix.
    pub fn is_linear(&self) -> bool {
        self.is_linear
    }

    /// The layer's input width.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// The layer's output width.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Replaces all branches.
    pub fn set<B: Into<Branch>>(&self, branches: Vec<B>) {
        let branches = Arc::new(branches.into_iter().map(Into::into).collect());
        *self.branches.write().unwrap_or_else(PoisonError::into_inner) = branches;
    }

    /// The branches in effect.
    pub(crate) fn branches(&self) -> Arc<Vec<Branch>> {
        self.branches.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A norm's `weight` (d) with what all branches add to it.
    pub(crate) fn norm_weight(&self, weight: &Tensor) -> Result<Tensor> {
        let add = |sum: Tensor, branch: &Branch| match branch.difference()? {
            Some(difference) => Ok((sum + difference.reshape(weight.shape())?)?),
            None => Ok(sum),
        };
        self.branches().iter().try_fold(weight.clone(), add)
    }

    /// Adds what all branches make of `x` (…, in) to the layer's own `y` (…, out), in the dtype of `y`; `base` is the
    /// layer without its branches.
    pub(crate) fn add_to(
        &self,
        y: Tensor,
        x: &Tensor,
        base: &dyn Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let branches = self.branches();
        if branches.is_empty() {
            return Ok(y);
        }
        let shape = y.shape().clone();
        let x = x.reshape(((), self.in_features))?; // (n, in)
        let y = y.reshape(((), self.out_features))?; // (n, out)
        let base_y = y.to_dtype(x.dtype())?;
        let add = |sum: Tensor, branch: &Branch| -> Result<Tensor> {
            Ok((&sum + branch.forward(&x, &base_y, base)?.to_dtype(sum.dtype())?)?)
        };
        Ok(branches.iter().try_fold(y, add)?.reshape(shape)?)
    }
}
