//! The sizes of the text encoders, by the names of transformers' `config.json`.

use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;

use crate::error::{Error, Result};
use crate::files::read_json;
use crate::layers::Activation;

/// Sizes of a T5 encoder. What a file leaves out has transformers' default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct T5Config {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Channels of a token.
    pub d_model: usize,
    /// Channels of a head; `num_heads · d_kv` need not be `d_model`.
    pub d_kv: usize,
    /// Channels inside the feed-forward layers.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// Heads.
    pub num_heads: usize,
    /// Classes of distance between two tokens, both directions together.
    pub relative_attention_num_buckets: usize,
    /// Distance from which all are alike, in tokens.
    pub relative_attention_max_distance: usize,
    /// Added to the mean square of a norm.
    pub layer_norm_epsilon: f64,
    /// Kind of the feed-forward layers.
    pub feed_forward_proj: FeedForward,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: FeedForward { gated: false, activation: Activation::Relu },
        }
    }
}

impl T5Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read or describes an encoder that is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path, "a T5 configuration")?;
        config.validate(&path.display().to_string())?;
        Ok(config)
    }

    /// Refuses sizes that the architecture cannot have; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::Model`] with the field and its value.
    pub fn validate(&self, file: &str) -> Result<()> {
        refuse_zero(
            file,
            &[
                ("vocab_size", self.vocab_size),
                ("d_model", self.d_model),
                ("d_kv", self.d_kv),
                ("d_ff", self.d_ff),
                ("num_layers", self.num_layers),
                ("num_heads", self.num_heads),
            ],
        )?;
        let (buckets, distance) =
            (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if buckets < 4 || buckets % 2 == 1 || distance <= buckets / 4 {
            let message = format!(
                "`relative_attention_num_buckets` {buckets} with `relative_attention_max_distance` \
                 {distance} is not possible; T5 has 32 and 128"
            );
            return Err(Error::model(file, message));
        }
        Ok(())
    }
}

/// The feed-forward layers of a T5 block, written `relu` or `gated-gelu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FeedForward {
    /// Whether a second projection is multiplied with the activated one (arXiv:2002.05202).
    pub gated: bool,
    /// The function between the projections.
    pub activation: Activation,
}

impl TryFrom<String> for FeedForward {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let (gated, function) = match name.strip_prefix("gated-") {
            // T5 v1.1 says `gelu` and was trained with the tanh approximation.
            Some("gelu") => (true, "gelu_new"),
            Some(function) => (true, function),
            None => (false, name.as_str()),
        };
        let activation =
            Activation::deserialize(function.into_deserializer()).map_err(|_: ValueError| {
                format!("`feed_forward_proj` `{name}` is not supported; T5 v1.1 has `gated-gelu`")
            })?;
        Ok(Self { gated, activation })
    }
}

/// Sizes of a CLIP text encoder. What a file leaves out has transformers' default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Channels of a token.
    pub hidden_size: usize,
    /// Channels inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Rows of the position table: the most tokens there can be.
    pub max_position_embeddings: usize,
    /// The function inside the feed-forward layers.
    pub hidden_act: Activation,
    /// Added to the variance of a norm.
    pub layer_norm_eps: f64,
    /// The token whose first place is the pooled vector; 2 stands for "the highest id of the prompt".
    pub eos_token_id: u32,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

impl ClipTextConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When the file cannot be read or describes an encoder that is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path, "a CLIP text configuration")?;
        config.validate(&path.display().to_string())?;
        Ok(config)
    }

    /// Refuses sizes that the architecture cannot have; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::Model`] with the field and its value.
    pub fn validate(&self, file: &str) -> Result<()> {
        refuse_zero(
            file,
            &[
                ("vocab_size", self.vocab_size),
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("max_position_embeddings", self.max_position_embeddings),
            ],
        )?;
        let (channels, heads) = (self.hidden_size, self.num_attention_heads);
        if !channels.is_multiple_of(heads) {
            let message = format!("`hidden_size` {channels} is not a multiple of {heads} heads");
            return Err(Error::model(file, message));
        }
        Ok(())
    }
}

fn refuse_zero(file: &str, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((field, _)) => {
            Err(Error::model(file, format!("`{field}` is 0; does it belong to this model?")))
        }
        None => Ok(()),
    }
}
