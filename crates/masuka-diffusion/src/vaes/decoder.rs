//! Latents to a picture.

use candle_core::Tensor;

use super::bands::{Upsampled, Walk};
use super::config::AutoencoderKlConfig;
use super::head::Head;
use super::mid_block::MidBlock;
use super::resnet_block::ResnetBlock;
use crate::error::Result;
use crate::layers::Conv2d;
use crate::ops::Conv2dArgs;
use crate::weights::Weights;

pub(super) struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    head: Head,
}

impl Decoder {
    pub fn load(weights: &Weights, config: &AutoencoderKlConfig) -> Result<Self> {
        let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let latent = config.latent_channels;
        let same_size = Conv2dArgs::same_size(3);
        let up_blocks = (0..channels.len())
            .map(|level| UpBlock::load(&weights.at("up_blocks"), config, &channels, level));
        Ok(Self {
            conv_in: Conv2d::load(&weights.at("conv_in"), latent, first, 3, same_size)?,
            mid_block: MidBlock::load(&weights.at("mid_block"), config, first)?,
            up_blocks: up_blocks.collect::<Result<_>>()?,
            head: Head::load(weights, config.norm_num_groups, last, config.out_channels)?,
        })
    }

    /// Latents (1, c, y, x) as a picture (1, c', y', x').
    pub fn forward(&self, latents: &Tensor, walk: Walk<'_>) -> Result<Tensor> {
        let mut x = self.conv_in.forward(latents)?;
        x = self.mid_block.forward(&x, walk)?;
        for block in &self.up_blocks {
            x = block.forward(x, walk)?;
        }
        self.head.forward(&x, walk)
    }
}

/// One level: twice the resolution, except in the first, then resnet blocks. Checkpoints keep the convolution
/// that doubles with the level before; here it leads, because its picture is the largest and need never be whole.
struct UpBlock {
    upsampler: Option<Conv2d>,
    first: ResnetBlock,
    rest: Vec<ResnetBlock>,
}

impl UpBlock {
    fn load(
        weights: &Weights,
        config: &AutoencoderKlConfig,
        channels: &[usize],
        level: usize,
    ) -> Result<Self> {
        let c_out = channels[level];
        let c_in = channels[level.saturating_sub(1)];
        let resnet = |i: usize, c_in| {
            let weights = weights.at(level).at("resnets").at(i);
            ResnetBlock::load(&weights, config.norm_num_groups, c_in, c_out)
        };
        let upsampler =
            |below: usize| Conv2d::load_doubling(&weights.at(below).at("upsamplers.0.conv"), c_in);
        Ok(Self {
            upsampler: level.checked_sub(1).map(upsampler).transpose()?,
            first: resnet(0, c_in)?,
            rest: (1..=config.layers_per_block).map(|i| resnet(i, c_out)).collect::<Result<_>>()?,
        })
    }

    fn forward(&self, mut x: Tensor, walk: Walk<'_>) -> Result<Tensor> {
        x = match &self.upsampler {
            Some(conv) => self.first.forward(&Upsampled { stored: &x, conv }, walk)?,
            None => self.first.forward(&x, walk)?,
        };
        for resnet in &self.rest {
            x = resnet.forward(&x, walk)?;
        }
        Ok(x)
    }
}
