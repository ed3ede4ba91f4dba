//! A picture to the moments of its latents.

use candle_core::Tensor;

use super::bands::Walk;
use super::config::AutoencoderKlConfig;
use super::head::Head;
use super::mid_block::MidBlock;
use super::resnet_block::ResnetBlock;
use crate::error::Result;
use crate::layers::Conv2d;
use crate::ops::Conv2dArgs;
use crate::weights::Weights;

/// Halves a picture; the zeros lie below and to the right only.
const HALVING: Conv2dArgs = Conv2dArgs { stride: 2, padding_before: 0, padding_after: 1 };

pub(super) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    head: Head,
}

impl Encoder {
    pub fn load(weights: &Weights, config: &AutoencoderKlConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let conv_in = weights.at("conv_in");
        let down_blocks = (0..channels.len())
            .map(|level| DownBlock::load(&weights.at("down_blocks").at(level), config, level));
        let moments = 2 * config.latent_channels;
        Ok(Self {
            conv_in: Conv2d::load(
                &conv_in,
                config.in_channels,
                first,
                3,
                Conv2dArgs::same_size(3),
            )?,
            down_blocks: down_blocks.collect::<Result<_>>()?,
            mid_block: MidBlock::load(&weights.at("mid_block"), config, last)?,
            head: Head::load(weights, config.norm_num_groups, last, moments)?,
        })
    }

    /// A picture (1, c, y, x) as mean and log variance (1, 2c', y', x').
    pub fn forward(&self, picture: &Tensor, walk: Walk<'_>) -> Result<Tensor> {
        let mut x = self.conv_in.forward(picture)?;
        for block in &self.down_blocks {
            x = block.forward(x, walk)?;
        }
        x = self.mid_block.forward(&x, walk)?;
        self.head.forward(&x, walk)
    }
}

/// One level: resnet blocks, then half the resolution, except after the last.
struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsampler: Option<Conv2d>,
}

impl DownBlock {
    fn load(weights: &Weights, config: &AutoencoderKlConfig, level: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let c_out = channels[level];
        let c_in = channels[level.saturating_sub(1)];
        let resnets = (0..config.layers_per_block).map(|i| {
            let c_in = if i == 0 { c_in } else { c_out };
            ResnetBlock::load(&weights.at("resnets").at(i), config.norm_num_groups, c_in, c_out)
        });
        let downsampler =
            || Conv2d::load(&weights.at("downsamplers.0.conv"), c_out, c_out, 3, HALVING);
        Ok(Self {
            resnets: resnets.collect::<Result<_>>()?,
            downsampler: (level + 1 < channels.len()).then(downsampler).transpose()?,
        })
    }

    fn forward(&self, mut x: Tensor, walk: Walk<'_>) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x, walk)?;
        }
        match &self.downsampler {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}
