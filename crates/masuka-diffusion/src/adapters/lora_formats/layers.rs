//! The linear layers that an adapter can change, by diffusers' and transformers' names; `{}` stands for a number.

use super::Target;

/// The FLUX.1 transformer.
pub(super) const FLUX: &[&str] = &[
    "transformer_blocks.{}.norm1.linear",
    "transformer_blocks.{}.norm1_context.linear",
    "transformer_blocks.{}.attn.to_q",
    "transformer_blocks.{}.attn.to_k",
    "transformer_blocks.{}.attn.to_v",
    "transformer_blocks.{}.attn.to_out.0",
    "transformer_blocks.{}.attn.add_q_proj",
    "transformer_blocks.{}.attn.add_k_proj",
    "transformer_blocks.{}.attn.add_v_proj",
    "transformer_blocks.{}.attn.to_add_out",
    "transformer_blocks.{}.ff.net.0.proj",
    "transformer_blocks.{}.ff.net.2",
    "transformer_blocks.{}.ff_context.net.0.proj",
    "transformer_blocks.{}.ff_context.net.2",
    "single_transformer_blocks.{}.norm.linear",
    "single_transformer_blocks.{}.attn.to_q",
    "single_transformer_blocks.{}.attn.to_k",
    "single_transformer_blocks.{}.attn.to_v",
    "single_transformer_blocks.{}.proj_mlp",
    "single_transformer_blocks.{}.proj_out",
    "x_embedder",
    "context_embedder",
    "time_text_embed.timestep_embedder.linear_1",
    "time_text_embed.timestep_embedder.linear_2",
    "time_text_embed.guidance_embedder.linear_1",
    "time_text_embed.guidance_embedder.linear_2",
    "time_text_embed.text_embedder.linear_1",
    "time_text_embed.text_embedder.linear_2",
    "norm_out.linear",
    "proj_out",
];

/// Its norms of queries and keys.
pub(super) const FLUX_NORMS: &[&str] = &[
    "transformer_blocks.{}.attn.norm_q",
    "transformer_blocks.{}.attn.norm_k",
    "transformer_blocks.{}.attn.norm_added_q",
    "transformer_blocks.{}.attn.norm_added_k",
    "single_transformer_blocks.{}.attn.norm_q",
    "single_transformer_blocks.{}.attn.norm_k",
];

/// CLIP's text encoder, without the `text_model.` that some files put before.
pub(super) const CLIP: &[&str] = &[
    "encoder.layers.{}.self_attn.q_proj",
    "encoder.layers.{}.self_attn.k_proj",
    "encoder.layers.{}.self_attn.v_proj",
    "encoder.layers.{}.self_attn.out_proj",
    "encoder.layers.{}.mlp.fc1",
    "encoder.layers.{}.mlp.fc2",
];

/// Layers of CLIP that FLUX does not use: the pooled vector is taken before its projection.
pub(super) const CLIP_UNUSED: &[&str] = &["text_projection"];

/// The T5 encoder; `wi` where the feed-forward layers are not gated.
pub(super) const T5: &[&str] = &[
    "encoder.block.{}.layer.0.SelfAttention.q",
    "encoder.block.{}.layer.0.SelfAttention.k",
    "encoder.block.{}.layer.0.SelfAttention.v",
    "encoder.block.{}.layer.0.SelfAttention.o",
    "encoder.block.{}.layer.1.DenseReluDense.wi",
    "encoder.block.{}.layer.1.DenseReluDense.wi_0",
    "encoder.block.{}.layer.1.DenseReluDense.wi_1",
    "encoder.block.{}.layer.1.DenseReluDense.wo",
];

/// The name by which a layer is found: CLIP's checkpoints spell it with and without `text_model.`.
pub fn canonical_module(target: Target, module: &str) -> &str {
    match target {
        Target::TextEncoder => module.strip_prefix("text_model.").unwrap_or(module),
        Target::Transformer | Target::TextEncoder2 => module,
    }
}

/// The linear layers of a part of the model.
pub(super) fn of(target: Target) -> &'static [&'static str] {
    match target {
        Target::Transformer => FLUX,
        Target::TextEncoder => CLIP,
        Target::TextEncoder2 => T5,
    }
}
