//! The encoder of T5 v1.1 (arXiv:1910.10683, arXiv:2002.05202): no biases, no scaling of the scores, and a learned
//! bias by distance in place of positions. Padding is not masked, as FLUX was trained. The sum that runs through the blocks
//! is f32 in every precision.

use candle_core::{DType, Tensor};

use super::config::T5Config;
use crate::error::Result;
use crate::layers::{Activation, Bias, Embedding, Linear, RmsNorm};
use crate::observer::{self, StepObserver};
use crate::ops::{self, Attention};
use crate::weights::Weights;

/// Token ids to one vector a token.
pub struct T5Encoder {
    embed_tokens: Embedding,
    relative_attention_bias: RelativeAttentionBias,
    blocks: Vec<T5Block>,
    final_layer_norm: RmsNorm,
}

impl T5Encoder {
    /// Loads the encoder from a checkpoint in transformers' names.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let encoder = weights.at("encoder");
        let blocks = encoder.at("block");
        Ok(Self {
            embed_tokens: token_table(weights, config)?,
            relative_attention_bias: RelativeAttentionBias::load(
                &blocks.at(0).at("layer.0.SelfAttention.relative_attention_bias"),
                config,
            )?,
            blocks: (0..config.num_layers)
                .map(|i| T5Block::load(&blocks.at(i), config))
                .collect::<Result<_>>()?,
            final_layer_norm: RmsNorm::load(
                &encoder.at("final_layer_norm"),
                config.d_model,
                config.layer_norm_epsilon,
            )?,
        })
    }

    /// ids (b, l) in u32 as (b, l, d) in f32.
    ///
    /// # Errors
    /// When an id is beyond the vocabulary or `observer` cancels.
    pub fn forward(&self, ids: &Tensor, observer: &dyn StepObserver) -> Result<Tensor> {
        let (_, l) = ids.dims2()?;
        let bias = self.relative_attention_bias.forward(l)?; // (1, h, l, l)
        let mut x = self.embed_tokens.forward(ids)?.to_dtype(DType::F32)?; // (b, l, d)
        for block in &self.blocks {
            observer::proceed(observer)?;
            x = block.forward(&x, &bias)?;
        }
        self.final_layer_norm.forward_f32(&x)
    }
}

/// The token table, which checkpoints hold under either of two names or under both.
fn token_table(weights: &Weights, config: &T5Config) -> Result<Embedding> {
    let names = ["shared", "encoder.embed_tokens"];
    let held = |name: &&str| weights.at(name).contains("weight");
    let name = names.into_iter().find(held).unwrap_or(names[0]);
    let table = Embedding::load(&weights.at(name), config.vocab_size, config.d_model)?;
    for name in names {
        weights.at(name).ignore("weight");
    }
    Ok(table)
}

/// Attention to the block's input, then the feed-forward layers, each beside a residual.
struct T5Block {
    attention_norm: RmsNorm,
    attention: T5Attention,
    feed_forward_norm: RmsNorm,
    feed_forward: T5FeedForward,
}

impl T5Block {
    fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let (attention, feed_forward) = (weights.at("layer.0"), weights.at("layer.1"));
        let norm = |weights: &Weights| {
            RmsNorm::load(&weights.at("layer_norm"), config.d_model, config.layer_norm_epsilon)
        };
        Ok(Self {
            attention_norm: norm(&attention)?,
            attention: T5Attention::load(&attention.at("SelfAttention"), config)?,
            feed_forward_norm: norm(&feed_forward)?,
            feed_forward: T5FeedForward::load(&feed_forward.at("DenseReluDense"), config)?,
        })
    }

    /// x (b, l, d) in f32 with the distance bias (1, h, l, l).
    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.attention_norm.forward(x)?, bias)?)?;
        let update = self.feed_forward.forward(&self.feed_forward_norm.forward(&x)?)?;
        Ok((x + update)?)
    }
}

struct T5Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: usize,
}

impl T5Attention {
    fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let (d, inner) = (config.d_model, config.num_heads * config.d_kv);
        let linear = |name: &str, from, to| Linear::load(&weights.at(name), from, to, Bias::No);
        Ok(Self {
            q: linear("q", d, inner)?,
            k: linear("k", d, inner)?,
            v: linear("v", d, inner)?,
            o: linear("o", inner, d)?,
            heads: config.num_heads,
        })
    }

    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (b, l, _) = x.dims3()?;
        let split = |y: Tensor| y.reshape((b, l, self.heads, ()))?.transpose(1, 2); // (b, h, l, d_kv)
        let q = split(self.q.forward(x)?)?;
        let k = split(self.k.forward(x)?)?;
        let v = split(self.v.forward(x)?)?;
        let how = Attention { scale: Some(1.0), bias: Some(bias) };
        let y = ops::attention(&q, &k, &v, &how)?; // (b, h, l, d_kv)
        self.o.forward_f32(&y.transpose(1, 2)?.reshape((b, l, ()))?) // (b, l, d)
    }
}

struct T5FeedForward {
    wi: Linear,
    /// The projection that is multiplied in, of gated layers.
    wi_1: Option<Linear>,
    wo: Linear,
    activation: Activation,
}

impl T5FeedForward {
    fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let (d, d_ff) = (config.d_model, config.d_ff);
        let linear = |name: &str, from, to| Linear::load(&weights.at(name), from, to, Bias::No);
        let (wi, wi_1) = if config.feed_forward_proj.gated {
            (linear("wi_0", d, d_ff)?, Some(linear("wi_1", d, d_ff)?))
        } else {
            (linear("wi", d, d_ff)?, None)
        };
        let activation = config.feed_forward_proj.activation;
        Ok(Self { wi, wi_1, wo: linear("wo", d_ff, d)?, activation })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = self.activation.forward(&self.wi.forward(x)?)?;
        if let Some(wi_1) = &self.wi_1 {
            y = (y * wi_1.forward(x)?)?;
        }
        self.wo.forward_f32(&y)
    }
}

/// What the distance of two tokens adds to their score: held by the first block, used by all.
struct RelativeAttentionBias {
    /// (buckets, h) in f32
    table: Tensor,
    buckets: usize,
    max_distance: usize,
}

impl RelativeAttentionBias {
    fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let buckets = config.relative_attention_num_buckets;
        Ok(Self {
            table: weights.tensor_as("weight", &[buckets, config.num_heads], DType::F32)?,
            buckets,
            max_distance: config.relative_attention_max_distance,
        })
    }

    /// The bias (1, h, l, l) between all pairs of `l` tokens. A row of it is a window into the biases by distance, which
    /// moves by one from query to query.
    fn forward(&self, l: usize) -> Result<Tensor> {
        let heads = self.table.t()?.to_vec2::<f32>()?; // (h, buckets)
        let farthest = l.saturating_sub(1); // ahead and behind
        let buckets: Vec<_> = (0..farthest + l).map(|i| self.bucket(farthest, i)).collect();
        let mut bias = Vec::with_capacity(heads.len() * l * l);
        for of_buckets in &heads {
            let by_distance: Vec<f32> = buckets.iter().map(|bucket| of_buckets[*bucket]).collect();
            for query in 0..l {
                bias.extend_from_slice(&by_distance[farthest - query..][..l]);
            }
        }
        Ok(Tensor::from_vec(bias, (1, heads.len(), l, l), self.table.device())?)
    }

    /// Half of the buckets look back and half ahead; of each half, the near distances have a bucket of their own,
    /// and up to `max_distance` the rest share buckets that grow exponentially.
    fn bucket(&self, query: usize, key: usize) -> usize {
        let half = self.buckets / 2;
        let ahead = if key > query { half } else { 0 };
        let distance = key.abs_diff(query);
        let exact = half / 2;
        if distance < exact {
            return ahead + distance;
        }
        // In f32 and in this order, because the quotient is rounded down.
        let decades = (self.max_distance as f64 / exact as f64).ln() as f32;
        let far = (distance as f32 / exact as f32).ln() / decades * (half - exact) as f32;
        ahead + (exact + far as usize).min(half - 1)
    }
}
