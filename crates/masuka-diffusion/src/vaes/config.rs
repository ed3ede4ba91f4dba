//! The `config.json` of an `AutoencoderKL`: every size of the model, and the refusal of what is not supported.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The sizes of one autoencoder, in diffusers' names and with diffusers' defaults.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct AutoencoderKlConfig {
    /// Channels of a picture that is encoded.
    pub in_channels: usize,
    /// Channels of a picture that is decoded.
    pub out_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Channels of each level, from the full resolution down; each level halves the picture.
    pub block_out_channels: Vec<usize>,
    /// Resnet blocks of an encoder level; a decoder level has one more.
    pub layers_per_block: usize,
    /// Width and height of the pictures it was trained on, in pixels.
    pub sample_size: Option<usize>,
    /// Groups of every GroupNorm.
    pub norm_num_groups: usize,
    /// Whether attention stands between the two blocks of the lowest level.
    pub mid_block_add_attention: bool,
    /// Whether the moments pass a last 1×1 convolution.
    pub use_quant_conv: bool,
    /// Whether latents pass a first 1×1 convolution.
    pub use_post_quant_conv: bool,
    /// What a shifted latent is multiplied by for the denoiser.
    pub scaling_factor: f64,
    /// What is taken from a latent for the denoiser.
    #[serde(deserialize_with = "null_as_default")]
    pub shift_factor: f64,
    pub(super) act_fn: String,
    pub(super) down_block_types: Vec<String>,
    pub(super) up_block_types: Vec<String>,
    pub(super) latents_mean: Value,
    pub(super) latents_std: Value,
}

impl Default for AutoencoderKlConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            latent_channels: 4,
            block_out_channels: vec![64],
            layers_per_block: 1,
            sample_size: None,
            norm_num_groups: 32,
            mid_block_add_attention: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            scaling_factor: 0.18215,
            shift_factor: 0.0,
            act_fn: "silu".to_owned(),
            down_block_types: vec!["DownEncoderBlock2D".to_owned()],
            up_block_types: vec!["UpDecoderBlock2D".to_owned()],
            latents_mean: Value::Null,
            latents_std: Value::Null,
        }
    }
}

impl AutoencoderKlConfig {
    /// Reads a component's `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read or describes an autoencoder that is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let json = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let config: Self = serde_json::from_str(&json).map_err(|e| {
            let message = format!("is no autoencoder configuration ({e}); copy it again");
            Error::model(path.display(), message)
        })?;
        config.validate(&path.display().to_string())?;
        Ok(config)
    }

    /// The defaults, with `levels` levels of the supported kind.
    pub(super) fn of_levels(levels: usize) -> Self {
        let default = Self::default();
        Self {
            down_block_types: vec![default.down_block_types.concat(); levels],
            up_block_types: vec![default.up_block_types.concat(); levels],
            ..default
        }
    }

    /// Refuses what is not supported; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::Model`] with the field and its value.
    pub fn validate(&self, file: &str) -> Result<()> {
        self.check().map_err(|message| Error::model(file, message))
    }

    /// Pixels of a picture along one side of a latent pixel.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    fn check(&self) -> Result<(), String> {
        self.check_kind()?;
        self.check_sizes()
    }

    fn check_kind(&self) -> Result<(), String> {
        if !matches!(self.act_fn.as_str(), "silu" | "swish") {
            return Err(format!("`act_fn` is `{}`; use a model with `silu`", self.act_fn));
        }
        let blocks = [
            ("down_block_types", &self.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &self.up_block_types, "UpDecoderBlock2D"),
        ];
        for (field, types, supported) in blocks {
            if let Some(other) = types.iter().find(|kind| *kind != supported) {
                return Err(format!(
                    "`{field}` has `{other}`; use a model with `{supported}` only"
                ));
            }
            let (found, levels) = (types.len(), self.block_out_channels.len());
            if found != levels {
                return Err(format!(
                    "`{field}` has {found} entries and `block_out_channels` {levels}; copy the file again"
                ));
            }
        }
        for (field, value) in
            [("latents_mean", &self.latents_mean), ("latents_std", &self.latents_std)]
        {
            if !value.is_null() {
                return Err(format!(
                    "`{field}` is {value}; use a model with `scaling_factor` and `shift_factor` alone"
                ));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), String> {
        for (field, size) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("layers_per_block", self.layers_per_block),
            ("norm_num_groups", self.norm_num_groups),
        ] {
            if size == 0 {
                return Err(format!("`{field}` is 0; copy the file again"));
            }
        }
        let groups = self.norm_num_groups;
        let uneven = self.block_out_channels.iter().find(|&&c| c == 0 || c % groups != 0);
        if let Some(channels) = uneven {
            return Err(format!(
                "`block_out_channels` has {channels}, which `norm_num_groups` {groups} does not \
                 divide; copy the file again"
            ));
        }
        if !self.scaling_factor.is_normal() || !self.shift_factor.is_finite() {
            return Err(format!(
                "`scaling_factor` {} and `shift_factor` {} cannot be undone; copy the file again",
                self.scaling_factor, self.shift_factor
            ));
        }
        Ok(())
    }
}

fn null_as_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
