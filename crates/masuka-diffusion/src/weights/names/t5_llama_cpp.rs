//! The T5 v1.1 encoder in llama.cpp's names (gguf-py 0.19.0 `constants.py`, architecture `t5encoder`).

use super::{How, Names, Rule};

const fn same(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, how: How::Same }
}

/// One of ours for each of theirs.
pub const T5_LLAMA_CPP: Names = Names {
    parameters: &[],
    rules: &[
        same("token_embd", &["shared"]),
        same("enc.output_norm", &["encoder.final_layer_norm"]),
        same("enc.blk.{}.attn_q", &["encoder.block.{}.layer.0.SelfAttention.q"]),
        same("enc.blk.{}.attn_k", &["encoder.block.{}.layer.0.SelfAttention.k"]),
        same("enc.blk.{}.attn_v", &["encoder.block.{}.layer.0.SelfAttention.v"]),
        same("enc.blk.{}.attn_o", &["encoder.block.{}.layer.0.SelfAttention.o"]),
        same(
            "enc.blk.{}.attn_rel_b",
            &["encoder.block.{}.layer.0.SelfAttention.relative_attention_bias"],
        ),
        same("enc.blk.{}.attn_norm", &["encoder.block.{}.layer.0.layer_norm"]),
        same("enc.blk.{}.ffn_gate", &["encoder.block.{}.layer.1.DenseReluDense.wi_0"]),
        same("enc.blk.{}.ffn_up", &["encoder.block.{}.layer.1.DenseReluDense.wi_1"]),
        same("enc.blk.{}.ffn_down", &["encoder.block.{}.layer.1.DenseReluDense.wo"]),
        same("enc.blk.{}.ffn_norm", &["encoder.block.{}.layer.1.layer_norm"]),
    ],
};
