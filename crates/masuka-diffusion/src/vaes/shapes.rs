//! The sizes of an autoencoder from the shapes of its tensors.

use std::path::Path;

use super::config::AutoencoderKlConfig;
use crate::error::Result;
use crate::weights::{FromShapes, Shapes};

/// FLUX.1's latents: shift and scale, which no tensor tells.
const FLUX_SHIFT: f64 = 0.1159;
const FLUX_SCALE: f64 = 0.3611;
/// Pixels along a side of the pictures it was trained on.
const FLUX_SAMPLE_SIZE: usize = 1024;

impl FromShapes for AutoencoderKlConfig {
    fn read(path: &Path) -> Result<Self> {
        Self::read(path)
    }

    fn from_shapes(shapes: Shapes<'_>) -> Result<Self> {
        let [_, in_channels, _, _] = shapes.of("encoder.conv_in.weight")?;
        let [out_channels, _, _, _] = shapes.of("decoder.conv_out.weight")?;
        let [_, latent_channels, _, _] = shapes.of("decoder.conv_in.weight")?;
        let levels = shapes.count("encoder.down_blocks");
        let channels = |level| -> Result<usize> {
            let name = format!("encoder.down_blocks.{level}.resnets.0.conv1.weight");
            Ok(shapes.of::<4>(&name)?[0])
        };
        Ok(Self {
            in_channels,
            out_channels,
            latent_channels,
            block_out_channels: (0..levels).map(channels).collect::<Result<_>>()?,
            layers_per_block: shapes.count("encoder.down_blocks.0.resnets"),
            mid_block_add_attention: shapes.has("decoder.mid_block.attentions.0.group_norm.weight"),
            use_quant_conv: shapes.has("quant_conv.weight"),
            use_post_quant_conv: shapes.has("post_quant_conv.weight"),
            scaling_factor: FLUX_SCALE,
            shift_factor: FLUX_SHIFT,
            sample_size: Some(FLUX_SAMPLE_SIZE),
            ..Self::of_levels(levels)
        })
    }

    fn validate(&self, file: &str) -> Result<()> {
        self.validate(file)
    }

    fn fits(&self, other: &Self) -> bool {
        let known = Self {
            norm_num_groups: other.norm_num_groups,
            scaling_factor: other.scaling_factor,
            shift_factor: other.shift_factor,
            sample_size: other.sample_size,
            ..self.clone()
        };
        known == *other
    }
}
