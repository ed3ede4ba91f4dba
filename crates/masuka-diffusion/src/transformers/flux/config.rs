//! The sizes of a FLUX transformer, by the names of diffusers' `config.json`.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::read_json;

/// Sizes of a FLUX transformer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FluxConfig {
    /// Always 1: patches are packed before the transformer.
    #[serde(default = "one")]
    pub patch_size: usize,
    /// Channels of a packed image token.
    pub in_channels: usize,
    /// Channels of a predicted token; as `in_channels` where absent.
    #[serde(default)]
    pub out_channels: Option<usize>,
    /// Double-stream blocks.
    pub num_layers: usize,
    /// Single-stream blocks.
    pub num_single_layers: usize,
    /// Channels of a head.
    pub attention_head_dim: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Channels of a T5 token.
    pub joint_attention_dim: usize,
    /// Channels of the pooled CLIP vector.
    pub pooled_projection_dim: usize,
    /// Whether guidance was distilled into an embedding (dev) or not (schnell).
    #[serde(default)]
    pub guidance_embeds: bool,
    /// Rotary channels of each position axis: picture index, row, column.
    #[serde(default = "flux_axes")]
    pub axes_dims_rope: Vec<usize>,
}

fn one() -> usize {
    1
}

fn flux_axes() -> Vec<usize> {
    vec![16, 56, 56]
}

impl FluxConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read or describes a transformer that is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path, "a FLUX transformer configuration")?;
        config.validate(&path.display().to_string())?;
        Ok(config)
    }

    /// Width of the residual stream.
    pub fn hidden_size(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Channels of a predicted token.
    pub fn out_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Refuses combinations that the architecture cannot have; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::Model`] with the field, its value and what is supported.
    pub fn validate(&self, file: &str) -> Result<()> {
        let refuse = |message: String| Err(Error::model(file, message));
        if self.patch_size != 1 {
            return refuse(format!("`patch_size` {} is not supported, only 1 is", self.patch_size));
        }
        if self.axes_dims_rope.len() != 3 || self.axes_dims_rope.iter().any(|d| d % 2 != 0) {
            let axes = &self.axes_dims_rope;
            return refuse(format!("`axes_dims_rope` {axes:?} must be three even numbers"));
        }
        let rotary: usize = self.axes_dims_rope.iter().sum();
        if rotary != self.attention_head_dim {
            let head = self.attention_head_dim;
            return refuse(format!(
                "`axes_dims_rope` sums to {rotary}, `attention_head_dim` is {head}; they must agree"
            ));
        }
        if self.hidden_size() == 0 || !self.in_channels.is_multiple_of(4) || self.in_channels == 0 {
            return refuse("`in_channels` must be a multiple of 4 and no size zero".to_owned());
        }
        Ok(())
    }
}
