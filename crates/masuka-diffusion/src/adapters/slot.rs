//! Where a linear layer keeps its side branches. Switching adapters swaps the list; the weights are not touched.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::Tensor;

use crate::error::Result;
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

impl LoraBranch {
    /// Whether gradients are asked of it.
    pub(crate) fn is_trained(&self) -> bool {
        self.down.track_op() || self.up.track_op()
    }

    /// What its gradient needs.
    pub(crate) fn tensors(&self) -> LoraTensors<'_> {
        LoraTensors { down: &self.down, up: &self.up, scale: self.scale }
    }

    /// The update for `x` (…, in) as (…, out).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = x.broadcast_matmul(&self.down.t()?)?; // (…, rank)
        let update = hidden.broadcast_matmul(&self.up.t()?)?; // (…, out)
        Ok((update * self.scale)?)
    }
}

/// The adapters of one linear layer, shared between the layer and whoever switches adapters.
#[derive(Debug)]
pub struct AdapterSlot {
    in_features: usize,
    out_features: usize,
    branches: RwLock<Arc<Vec<LoraBranch>>>,
}

impl AdapterSlot {
    /// An empty slot of a layer (out, in).
    pub fn new(in_features: usize, out_features: usize) -> Self {
        Self { in_features, out_features, branches: RwLock::default() }
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
    pub fn set(&self, branches: Vec<LoraBranch>) {
        *self.branches.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(branches);
    }

    /// The branches in effect.
    pub(crate) fn branches(&self) -> Arc<Vec<LoraBranch>> {
        self.branches.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds what all branches make of `x` to `y`.
    pub(crate) fn add_to(&self, y: Tensor, x: &Tensor) -> Result<Tensor> {
        self.branches().iter().try_fold(y, |y, branch| Ok((y + branch.forward(x)?)?))
    }
}
