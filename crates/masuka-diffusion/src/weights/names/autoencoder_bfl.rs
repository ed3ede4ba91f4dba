//! The autoencoder in the names of its first authors (CompVis/latent-diffusion), which Stability and Black Forest Labs
//! kept: `ae.safetensors`, `vae-ft-mse`.

use super::{How, Names, Rule};

const fn same(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, how: How::Same }
}

const fn pointwise(theirs: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule { theirs, ours, how: How::Pointwise }
}

/// The decoder counts its levels from the full resolution there and from the lowest here; attention projects by 1×1
/// convolutions there.
pub const AUTOENCODER_BFL: Names = Names {
    parameters: &[],
    rules: &[
        same("encoder.conv_in", &["encoder.conv_in"]),
        same("decoder.conv_in", &["decoder.conv_in"]),
        same("encoder.down.{}.block.{}.norm1", &["encoder.down_blocks.{}.resnets.{}.norm1"]),
        same("encoder.down.{}.block.{}.conv1", &["encoder.down_blocks.{}.resnets.{}.conv1"]),
        same("encoder.down.{}.block.{}.norm2", &["encoder.down_blocks.{}.resnets.{}.norm2"]),
        same("encoder.down.{}.block.{}.conv2", &["encoder.down_blocks.{}.resnets.{}.conv2"]),
        same(
            "encoder.down.{}.block.{}.nin_shortcut",
            &["encoder.down_blocks.{}.resnets.{}.conv_shortcut"],
        ),
        same("encoder.down.{}.downsample.conv", &["encoder.down_blocks.{}.downsamplers.0.conv"]),
        same("decoder.up.{}.block.{}.norm1", &["decoder.up_blocks.{^}.resnets.{}.norm1"]),
        same("decoder.up.{}.block.{}.conv1", &["decoder.up_blocks.{^}.resnets.{}.conv1"]),
        same("decoder.up.{}.block.{}.norm2", &["decoder.up_blocks.{^}.resnets.{}.norm2"]),
        same("decoder.up.{}.block.{}.conv2", &["decoder.up_blocks.{^}.resnets.{}.conv2"]),
        same(
            "decoder.up.{}.block.{}.nin_shortcut",
            &["decoder.up_blocks.{^}.resnets.{}.conv_shortcut"],
        ),
        same("decoder.up.{}.upsample.conv", &["decoder.up_blocks.{^}.upsamplers.0.conv"]),
        same("encoder.mid.block_1.norm1", &["encoder.mid_block.resnets.0.norm1"]),
        same("encoder.mid.block_1.conv1", &["encoder.mid_block.resnets.0.conv1"]),
        same("encoder.mid.block_1.norm2", &["encoder.mid_block.resnets.0.norm2"]),
        same("encoder.mid.block_1.conv2", &["encoder.mid_block.resnets.0.conv2"]),
        same("encoder.mid.block_2.norm1", &["encoder.mid_block.resnets.1.norm1"]),
        same("encoder.mid.block_2.conv1", &["encoder.mid_block.resnets.1.conv1"]),
        same("encoder.mid.block_2.norm2", &["encoder.mid_block.resnets.1.norm2"]),
        same("encoder.mid.block_2.conv2", &["encoder.mid_block.resnets.1.conv2"]),
        same("encoder.mid.attn_1.norm", &["encoder.mid_block.attentions.0.group_norm"]),
        pointwise("encoder.mid.attn_1.q", &["encoder.mid_block.attentions.0.to_q"]),
        pointwise("encoder.mid.attn_1.k", &["encoder.mid_block.attentions.0.to_k"]),
        pointwise("encoder.mid.attn_1.v", &["encoder.mid_block.attentions.0.to_v"]),
        pointwise("encoder.mid.attn_1.proj_out", &["encoder.mid_block.attentions.0.to_out.0"]),
        same("encoder.norm_out", &["encoder.conv_norm_out"]),
        same("encoder.conv_out", &["encoder.conv_out"]),
        same("decoder.mid.block_1.norm1", &["decoder.mid_block.resnets.0.norm1"]),
        same("decoder.mid.block_1.conv1", &["decoder.mid_block.resnets.0.conv1"]),
        same("decoder.mid.block_1.norm2", &["decoder.mid_block.resnets.0.norm2"]),
        same("decoder.mid.block_1.conv2", &["decoder.mid_block.resnets.0.conv2"]),
        same("decoder.mid.block_2.norm1", &["decoder.mid_block.resnets.1.norm1"]),
        same("decoder.mid.block_2.conv1", &["decoder.mid_block.resnets.1.conv1"]),
        same("decoder.mid.block_2.norm2", &["decoder.mid_block.resnets.1.norm2"]),
        same("decoder.mid.block_2.conv2", &["decoder.mid_block.resnets.1.conv2"]),
        same("decoder.mid.attn_1.norm", &["decoder.mid_block.attentions.0.group_norm"]),
        pointwise("decoder.mid.attn_1.q", &["decoder.mid_block.attentions.0.to_q"]),
        pointwise("decoder.mid.attn_1.k", &["decoder.mid_block.attentions.0.to_k"]),
        pointwise("decoder.mid.attn_1.v", &["decoder.mid_block.attentions.0.to_v"]),
        pointwise("decoder.mid.attn_1.proj_out", &["decoder.mid_block.attentions.0.to_out.0"]),
        same("decoder.norm_out", &["decoder.conv_norm_out"]),
        same("decoder.conv_out", &["decoder.conv_out"]),
        same("quant_conv", &["quant_conv"]),
        same("post_quant_conv", &["post_quant_conv"]),
    ],
};
