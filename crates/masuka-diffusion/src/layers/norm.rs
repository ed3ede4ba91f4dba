//! Normalisations with their weights.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::adapters::AdapterSlot;
use crate::error::Result;
use crate::ops::{self, GroupMoments, Normalizations};
use crate::weights::Weights;

/// LayerNorm over the last axis.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Loads `weight` and `bias` (d).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights, channels: usize, eps: f64) -> Result<Self> {
        let weight = weights.tensor("weight", &[channels])?;
        let bias = weights.tensor("bias", &[channels])?;
        Ok(Self { weight, bias, eps })
    }

    /// x (…, d) normalised, in the dtype of the weights.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, Some(&self.weight), Some(&self.bias), self.eps, self.weight.dtype())
    }

    /// As [`forward`](Self::forward), in f32.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_f32(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, Some(&self.weight), Some(&self.bias), self.eps, DType::F32)
    }
}

/// RMSNorm over the last axis.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
    adapters: Arc<AdapterSlot>,
}

impl RmsNorm {
    /// Loads `weight` (d).
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub fn load(weights: &Weights, channels: usize, eps: f64) -> Result<Self> {
        let weight = weights.tensor("weight", &[channels])?;
        Ok(Self { weight, eps, adapters: weights.norm_slot(channels) })
    }

    /// x (…, d) normalised, in the dtype of the weight.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, self.weight.dtype())
    }

    /// As [`forward`](Self::forward), in f32.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_f32(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, DType::F32)
    }

    /// The weight (d) with what adapters add to it.
    ///
    /// # Errors
    /// When an adapter's part has another shape.
    pub fn adapted_weight(&self) -> Result<Tensor> {
        self.adapters.norm_weight(&self.weight)
    }

    fn forward_as(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        ops::rms_norm(x, &self.adapted_weight()?, self.eps, dtype)
    }
}

/// GroupNorm over groups of channels of a picture.
pub struct GroupNorm {
    groups: usize,
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl GroupNorm {
    /// Loads `weight` and `bias` (c).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        let weight = weights.tensor("weight", &[channels])?;
        let bias = weights.tensor("bias", &[channels])?;
        Ok(Self { groups, weight, bias, eps })
    }

    /// The moments of x (b, c, y, x) that its normalisation needs.
    ///
    /// # Errors
    /// When the groups do not divide the channels.
    pub fn moments(&self, x: &Tensor) -> Result<GroupMoments> {
        GroupMoments::of(x, self.groups)
    }

    /// x (b, c, y, x) normalised by its own moments.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, &self.moments(x)?, &self.weight, &self.bias, self.eps)
    }

    /// The norm by `moments` and SiLU, for a convolution that does both; none where no convolution can.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn normalizations_silu(&self, moments: &GroupMoments) -> Result<Option<Normalizations>> {
        Normalizations::silu(moments, &self.weight, &self.bias, self.eps)
    }

    /// x (b, c, y, x) normalised by `moments`, which may be those of a picture that x is a part of, then SiLU.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_silu(&self, x: &Tensor, moments: &GroupMoments) -> Result<Tensor> {
        ops::group_norm_silu(x, moments, &self.weight, &self.bias, self.eps)
    }
}
