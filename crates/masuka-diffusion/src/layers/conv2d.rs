//! Convolution with its weights.

use candle_core::Tensor;

use crate::error::Result;
use crate::layers::GroupNorm;
use crate::ops::{self, Conv2dArgs, GroupMoments, PackedConv};
use crate::weights::Weights;

/// A square convolution of pictures (b, c, y, x).
pub struct Conv2d {
    kernel: Kernel,
    /// Whether the picture is doubled along both axes beforehand.
    doubles: bool,
}

/// How the weight is kept.
enum Kernel {
    /// Packed for the processor, the bias with it.
    Packed(PackedConv),
    /// As tensors.
    Dense { weight: Tensor, bias: Tensor, args: Conv2dArgs },
}

impl Conv2d {
    /// Loads `weight` (out, in, kernel, kernel) and `bias` (out).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        weights: &Weights,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        args: Conv2dArgs,
    ) -> Result<Self> {
        let weight = weights.tensor("weight", &[out_channels, in_channels, kernel, kernel])?;
        let bias = weights.tensor("bias", &[out_channels])?;
        Self::new(weight, bias, args, false)
    }

    /// Loads a 3×3 convolution with as many channels out as in, of the picture that nearest neighbours make twice as
    /// large.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load_doubling(weights: &Weights, channels: usize) -> Result<Self> {
        let weight = weights.tensor("weight", &[channels, channels, 3, 3])?;
        let bias = weights.tensor("bias", &[channels])?;
        Self::new(weight, bias, Conv2dArgs::same_size(3), true)
    }

    fn new(weight: Tensor, bias: Tensor, args: Conv2dArgs, doubles: bool) -> Result<Self> {
        let kernel = match PackedConv::pack(&weight, &bias, args, doubles)? {
            Some(packed) => Kernel::Packed(packed),
            None => Kernel::Dense { weight, bias, args },
        };
        Ok(Self { kernel, doubles })
    }

    /// x (b, c_in, y, x) as (b, c_out, y', x').
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Packed(conv) => conv.forward(x, None),
            Kernel::Dense { weight, bias, args } if self.doubles => {
                ops::conv2d(&ops::upsample_nearest_2x(x)?, weight, bias, *args)
            }
            Kernel::Dense { weight, bias, args } => ops::conv2d(x, weight, bias, *args),
        }
    }

    /// [`forward`](Self::forward), and what is added to it, (b, c_out, y', x').
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Packed(conv) => conv.forward(x, Some(residual)),
            Kernel::Dense { .. } => Ok((residual + self.forward(x)?)?),
        }
    }

    /// [`forward`](Self::forward) of SiLU of the norm of x by `moments`, and `residual` (b, c_out, y', x') added to it, if
    /// any. x is let go before the result takes memory, where the norm of it is written.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_normed(
        &self,
        x: Tensor,
        (norm, moments): (&GroupNorm, &GroupMoments),
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        if let Kernel::Packed(conv) = &self.kernel
            && conv.normalizes(&x)
            && let Some(norms) = norm.normalizations_silu(moments)?
        {
            return conv.forward_normalized(&x, &norms, residual);
        }
        let normed = norm.forward_silu(&x, moments)?;
        drop(x); // a third of what a large picture takes
        match residual {
            Some(residual) => self.forward_add(&normed, residual),
            None => self.forward(&normed),
        }
    }
}
