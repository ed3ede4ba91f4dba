//! The sizes of text encoders from the shapes of their tensors.

use std::path::Path;

use super::config::{ClipTextConfig, FeedForward, T5Config};
use crate::error::Result;
use crate::layers::Activation;
use crate::weights::{FromShapes, Shapes};

/// Channels of a head in every CLIP.
const CLIP_HEAD: usize = 64;
/// Configurations that say so mean the highest id of the prompt; FLUX.1's own does.
const HIGHEST_ID: u32 = 2;

impl FromShapes for T5Config {
    fn read(path: &Path) -> Result<Self> {
        Self::read(path)
    }

    fn from_shapes(shapes: Shapes<'_>) -> Result<Self> {
        let table = if shapes.has("shared.weight") { "shared" } else { "encoder.embed_tokens" };
        let [vocab_size, d_model] = shapes.of(&format!("{table}.weight"))?;
        let block = "encoder.block.0.layer";
        let [inner, _] = shapes.of(&format!("{block}.0.SelfAttention.q.weight"))?;
        let [buckets, num_heads] =
            shapes.of(&format!("{block}.0.SelfAttention.relative_attention_bias.weight"))?;
        let [_, d_ff] = shapes.of(&format!("{block}.1.DenseReluDense.wo.weight"))?;
        let gated = shapes.has(&format!("{block}.1.DenseReluDense.wi_1.weight"));
        let activation = if gated { Activation::GeluNew } else { Activation::Relu };
        Ok(Self {
            vocab_size,
            d_model,
            d_kv: inner / num_heads.max(1),
            d_ff,
            num_layers: shapes.count("encoder.block"),
            num_heads,
            relative_attention_num_buckets: buckets,
            feed_forward_proj: FeedForward { gated, activation },
            ..Self::default()
        })
    }

    fn validate(&self, file: &str) -> Result<()> {
        self.validate(file)
    }

    fn fits(&self, other: &Self) -> bool {
        let known = Self {
            relative_attention_max_distance: other.relative_attention_max_distance,
            layer_norm_epsilon: other.layer_norm_epsilon,
            feed_forward_proj: FeedForward {
                gated: self.feed_forward_proj.gated,
                activation: other.feed_forward_proj.activation,
            },
            ..self.clone()
        };
        known == *other
    }
}

impl FromShapes for ClipTextConfig {
    fn read(path: &Path) -> Result<Self> {
        Self::read(path)
    }

    fn from_shapes(shapes: Shapes<'_>) -> Result<Self> {
        let model = if shapes.has("text_model.embeddings.token_embedding.weight") {
            "text_model."
        } else {
            ""
        };
        let of = |name: &str| shapes.of::<2>(&format!("{model}{name}"));
        let [vocab_size, hidden_size] = of("embeddings.token_embedding.weight")?;
        let [max_position_embeddings, _] = of("embeddings.position_embedding.weight")?;
        let [intermediate_size, _] = of("encoder.layers.0.mlp.fc1.weight")?;
        Ok(Self {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: shapes.count(&format!("{model}encoder.layers")),
            num_attention_heads: (hidden_size / CLIP_HEAD).max(1),
            max_position_embeddings,
            eos_token_id: HIGHEST_ID,
            ..Self::default()
        })
    }

    fn validate(&self, file: &str) -> Result<()> {
        self.validate(file)
    }

    fn fits(&self, other: &Self) -> bool {
        let known = Self {
            num_attention_heads: other.num_attention_heads,
            hidden_act: other.hidden_act,
            layer_norm_eps: other.layer_norm_eps,
            eos_token_id: other.eos_token_id,
            ..self.clone()
        };
        known == *other
    }
}
