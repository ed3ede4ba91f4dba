//! The activation function that a configuration names.

use candle_core::Tensor;
use serde::Deserialize;

use crate::error::Result;
use crate::ops;

/// An activation function, by transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// By the error function.
    Gelu,
    /// By the tanh approximation.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// CLIP's own.
    QuickGelu,
    /// max(0, x).
    Relu,
    /// Also called swish.
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    /// x of any shape, element by element.
    ///
    /// # Errors
    /// When the device fails.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => ops::gelu_erf(x),
            Self::GeluNew => ops::gelu_tanh(x),
            Self::QuickGelu => ops::quick_gelu(x),
            Self::Relu => Ok(x.relu()?),
            Self::Silu => ops::silu(x),
        }
    }
}
