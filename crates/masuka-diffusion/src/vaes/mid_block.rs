//! The lowest resolution: two resnet blocks, with attention over all pixels between them.

use candle_core::Tensor;

use super::bands::Walk;
use super::config::AutoencoderKlConfig;
use super::resnet_block::{EPS, ResnetBlock};
use crate::error::Result;
use crate::layers::{Bias, GroupNorm, Linear};
use crate::ops::{self, Attention};
use crate::weights::Weights;

pub(super) struct MidBlock {
    first: ResnetBlock,
    attention: Option<PixelAttention>,
    second: ResnetBlock,
}

impl MidBlock {
    pub fn load(weights: &Weights, config: &AutoencoderKlConfig, channels: usize) -> Result<Self> {
        let groups = config.norm_num_groups;
        let resnet =
            |i: usize| ResnetBlock::load(&weights.at("resnets").at(i), groups, channels, channels);
        let attention = || PixelAttention::load(&weights.at("attentions.0"), groups, channels);
        Ok(Self {
            first: resnet(0)?,
            attention: config.mid_block_add_attention.then(attention).transpose()?,
            second: resnet(1)?,
        })
    }

    /// x (1, c, y, x) in the same shape; x may be overwritten.
    pub fn forward(&self, x: &Tensor, walk: Walk<'_>) -> Result<Tensor> {
        let mut x = self.first.forward(x, walk)?;
        if let Some(attention) = &self.attention {
            walk.proceed()?;
            x = attention.forward(&x)?;
        }
        self.second.forward(&x, walk)
    }
}

/// Attention with one head, in which every pixel sees every other.
struct PixelAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl PixelAttention {
    fn load(weights: &Weights, groups: usize, channels: usize) -> Result<Self> {
        // Checkpoints from before diffusers 0.17 have the second spelling.
        let names = if weights.contains("query.weight") {
            ["query", "key", "value", "proj_attn"]
        } else {
            ["to_q", "to_k", "to_v", "to_out.0"]
        };
        let [to_q, to_k, to_v, to_out] =
            names.map(|name| Linear::load(&weights.at(name), channels, channels, Bias::Yes));
        Ok(Self {
            group_norm: GroupNorm::load(&weights.at("group_norm"), groups, channels, EPS)?,
            to_q: to_q?,
            to_k: to_k?,
            to_v: to_v?,
            to_out: to_out?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let tokens = ops::to_tokens(&self.group_norm.forward(x)?)?; // (b, l, c)
        let q = self.to_q.forward(&tokens)?.unsqueeze(1)?; // (b, 1, l, c)
        let k = self.to_k.forward(&tokens)?.unsqueeze(1)?; // (b, 1, l, c)
        let v = self.to_v.forward(&tokens)?.unsqueeze(1)?; // (b, 1, l, c)
        let seen = ops::attention(&q, &k, &v, &Attention::default())?.squeeze(1)?; // (b, l, c)
        let y = ops::from_tokens(&self.to_out.forward(&seen)?, height, width)?;
        ops::add_pixels(x, &y)
    }
}
