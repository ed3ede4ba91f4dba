//! Where a pipeline runs, in which precision, and how it shares memory.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The dtype of weights and activations. Sums, norms, softmax, time and latents are f32 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The reference: 4 bytes a weight.
    F32,
    /// The faithful default: 2 bytes a weight.
    Bf16,
    /// As bf16, but the large layers of the transformer's blocks have weights of 1 byte and multiply in int8. On a
    /// processor only.
    Int8,
}

impl Precision {
    /// Of activations and of the weights that are not quantised.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 | Self::Int8 => DType::BF16,
        }
    }

    /// The name in requests and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(Error::invalid("dtype", name, "is not one of f32, bf16, int8")),
        }
    }
}

/// What stays in memory between uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// Everything.
    #[default]
    None,
    /// One component at a time: text encoders, transformer, autoencoder.
    Components,
    /// As `Components`, and of the transformer one block at a time.
    Blocks,
}

impl Offload {
    /// The name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Components => "components",
            Self::Blocks => "blocks",
        }
    }
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Offload {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Self::None, Self::Components, Self::Blocks];
        let known = all.into_iter().find(|mode| mode.name() == name);
        known.ok_or_else(|| {
            Error::invalid("offload", name, "is not one of none, components, blocks")
        })
    }
}

/// How a pipeline is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where it computes.
    pub device: Device,
    /// In which precision.
    pub precision: Precision,
    /// What stays in memory.
    pub offload: Offload,
    /// Memory that the caller grants, in bytes; `None` skips the estimate's refusal.
    pub available_bytes: Option<u64>,
}
