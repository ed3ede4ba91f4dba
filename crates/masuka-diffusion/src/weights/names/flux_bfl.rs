//! The FLUX.1 transformer in Black Forest Labs' own names (black-forest-labs/flux `src/flux/model.py` @ 802fb47).

use super::{How, Names, Parameter, Rule};

const fn same(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, how: How::Same }
}

/// Queries, keys and values are one layer there; in single-stream blocks the MLP's first layer, four times as wide, is
/// part of it too. The last modulation has its shift first there and its scale first here.
pub const FLUX_BFL: Names = Names {
    parameters: &[Parameter { of: "_norm", theirs: "scale", ours: "weight" }],
    rules: &[
        same("img_in", &["x_embedder"]),
        same("txt_in", &["context_embedder"]),
        same("time_in.in_layer", &["time_text_embed.timestep_embedder.linear_1"]),
        same("time_in.out_layer", &["time_text_embed.timestep_embedder.linear_2"]),
        same("guidance_in.in_layer", &["time_text_embed.guidance_embedder.linear_1"]),
        same("guidance_in.out_layer", &["time_text_embed.guidance_embedder.linear_2"]),
        same("vector_in.in_layer", &["time_text_embed.text_embedder.linear_1"]),
        same("vector_in.out_layer", &["time_text_embed.text_embedder.linear_2"]),
        same("double_blocks.{}.img_mod.lin", &["transformer_blocks.{}.norm1.linear"]),
        same("double_blocks.{}.txt_mod.lin", &["transformer_blocks.{}.norm1_context.linear"]),
        Rule {
            theirs: "double_blocks.{}.img_attn.qkv",
            ours: &[
                "transformer_blocks.{}.attn.to_q",
                "transformer_blocks.{}.attn.to_k",
                "transformer_blocks.{}.attn.to_v",
            ],
            how: How::Rows(&[1, 1, 1]),
        },
        Rule {
            theirs: "double_blocks.{}.txt_attn.qkv",
            ours: &[
                "transformer_blocks.{}.attn.add_q_proj",
                "transformer_blocks.{}.attn.add_k_proj",
                "transformer_blocks.{}.attn.add_v_proj",
            ],
            how: How::Rows(&[1, 1, 1]),
        },
        same("double_blocks.{}.img_attn.norm.query_norm", &["transformer_blocks.{}.attn.norm_q"]),
        same("double_blocks.{}.img_attn.norm.key_norm", &["transformer_blocks.{}.attn.norm_k"]),
        same(
            "double_blocks.{}.txt_attn.norm.query_norm",
            &["transformer_blocks.{}.attn.norm_added_q"],
        ),
        same(
            "double_blocks.{}.txt_attn.norm.key_norm",
            &["transformer_blocks.{}.attn.norm_added_k"],
        ),
        same("double_blocks.{}.img_attn.proj", &["transformer_blocks.{}.attn.to_out.0"]),
        same("double_blocks.{}.txt_attn.proj", &["transformer_blocks.{}.attn.to_add_out"]),
        same("double_blocks.{}.img_mlp.0", &["transformer_blocks.{}.ff.net.0.proj"]),
        same("double_blocks.{}.img_mlp.2", &["transformer_blocks.{}.ff.net.2"]),
        same("double_blocks.{}.txt_mlp.0", &["transformer_blocks.{}.ff_context.net.0.proj"]),
        same("double_blocks.{}.txt_mlp.2", &["transformer_blocks.{}.ff_context.net.2"]),
        same("single_blocks.{}.modulation.lin", &["single_transformer_blocks.{}.norm.linear"]),
        Rule {
            theirs: "single_blocks.{}.linear1",
            ours: &[
                "single_transformer_blocks.{}.attn.to_q",
                "single_transformer_blocks.{}.attn.to_k",
                "single_transformer_blocks.{}.attn.to_v",
                "single_transformer_blocks.{}.proj_mlp",
            ],
            how: How::Rows(&[1, 1, 1, 4]),
        },
        same("single_blocks.{}.linear2", &["single_transformer_blocks.{}.proj_out"]),
        same("single_blocks.{}.norm.query_norm", &["single_transformer_blocks.{}.attn.norm_q"]),
        same("single_blocks.{}.norm.key_norm", &["single_transformer_blocks.{}.attn.norm_k"]),
        Rule {
            theirs: "final_layer.adaLN_modulation.1",
            ours: &["norm_out.linear"],
            how: How::SwapHalves,
        },
        same("final_layer.linear", &["proj_out"]),
    ],
};
