//! The sizes of a FLUX transformer from the shapes of its tensors.

use std::path::Path;

use super::FluxConfig;
use crate::error::Result;
use crate::weights::{FromShapes, Shapes};

impl FromShapes for FluxConfig {
    fn read(path: &Path) -> Result<Self> {
        Self::read(path)
    }

    fn from_shapes(shapes: Shapes<'_>) -> Result<Self> {
        let [hidden, in_channels] = shapes.of("x_embedder.weight")?;
        let [_, joint_attention_dim] = shapes.of("context_embedder.weight")?;
        let [_, pooled] = shapes.of("time_text_embed.text_embedder.linear_1.weight")?;
        let [out_channels, _] = shapes.of("proj_out.weight")?;
        let single = "single_transformer_blocks.0.attn.norm_q.weight";
        let [head] = if shapes.has(single) {
            shapes.of(single)?
        } else {
            shapes.of("transformer_blocks.0.attn.norm_q.weight")?
        };
        Ok(Self {
            patch_size: 1,
            in_channels,
            out_channels: Some(out_channels),
            num_layers: shapes.count("transformer_blocks"),
            num_single_layers: shapes.count("single_transformer_blocks"),
            attention_head_dim: head,
            num_attention_heads: hidden / head.max(1),
            joint_attention_dim,
            pooled_projection_dim: pooled,
            guidance_embeds: shapes.has("time_text_embed.guidance_embedder.linear_1.weight"),
            axes_dims_rope: axes_of(head),
        })
    }

    fn validate(&self, file: &str) -> Result<()> {
        self.validate(file)
    }

    fn fits(&self, other: &Self) -> bool {
        let known = Self {
            out_channels: Some(self.out_channels()),
            axes_dims_rope: other.axes_dims_rope.clone(),
            ..self.clone()
        };
        known == Self { out_channels: Some(other.out_channels()), ..other.clone() }
    }
}

/// A head's channels shared out as in FLUX.1, where 128 are 16 for the picture index and 56 for row and column each.
fn axes_of(head: usize) -> Vec<usize> {
    let side = head * 7 / 16 / 2 * 2;
    vec![head - 2 * side, side, side]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_those_of_flux_and_always_even() {
        assert_eq!(axes_of(128), [16, 56, 56]);
        for head in [24, 32, 64, 96] {
            let axes = axes_of(head);
            assert!(axes.iter().all(|axis| axis % 2 == 0), "{axes:?}");
            assert_eq!(axes.iter().sum::<usize>(), head);
        }
    }
}
