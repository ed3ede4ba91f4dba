//! The text half of CLIP (arXiv:2103.00020): a causal transformer whose state at the end of the prompt stands for all
//! of it. The sum that runs through the layers is f32 in every precision.

use candle_core::{DType, Device, Tensor};

use super::config::ClipTextConfig;
use crate::error::{Error, Result};
use crate::layers::{Activation, Bias, Embedding, LayerNorm, Linear};
use crate::observer::{self, StepObserver};
use crate::ops::{self, Attention};
use crate::weights::Weights;

/// The `eos_token_id` of configurations written before the field was put to use; the end is then the highest id
/// (transformers pull request 24773).
const UNKNOWN_EOS: u32 = 2;

/// A prompt as CLIP sees it.
pub struct ClipEncoding {
    /// Every token, (b, l, d) in f32.
    pub last_hidden_state: Tensor,
    /// The token at the end of the prompt, (b, d) in f32.
    pub pooled: Tensor,
}

/// Token ids to a vector a token and one for the prompt.
pub struct ClipTextEncoder {
    token_embedding: Embedding,
    /// (positions, d)
    position_embedding: Tensor,
    layers: Vec<ClipLayer>,
    final_layer_norm: LayerNorm,
    eos_token_id: u32,
}

impl ClipTextEncoder {
    /// Loads the encoder from a checkpoint in transformers' names, below `text_model.` or bare.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights, config: &ClipTextConfig) -> Result<Self> {
        // Of CLIP's picture half, and of no use here.
        weights.ignore("text_projection.weight");
        weights.ignore("logit_scale");
        let bare = weights.contains("embeddings.token_embedding.weight");
        let weights = if bare { weights.clone() } else { weights.at("text_model") };

        let (d, embeddings) = (config.hidden_size, weights.at("embeddings"));
        embeddings.ignore("position_ids");
        let positions = [config.max_position_embeddings, d];
        let layers = weights.at("encoder.layers");
        let norm = weights.at("final_layer_norm");
        Ok(Self {
            token_embedding: Embedding::load(
                &embeddings.at("token_embedding"),
                config.vocab_size,
                d,
            )?,
            position_embedding: embeddings.tensor("position_embedding.weight", &positions)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| ClipLayer::load(&layers.at(i), config))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::load(&norm, d, config.layer_norm_eps)?,
            eos_token_id: config.eos_token_id,
        })
    }

    /// ids (b, l) in u32.
    ///
    /// # Errors
    /// When there are more tokens than positions, an id is beyond the vocabulary, or `observer` cancels.
    pub fn forward(&self, ids: &Tensor, observer: &dyn StepObserver) -> Result<ClipEncoding> {
        let (_, l) = ids.dims2()?;
        let positions = self.position_embedding.dim(0)?;
        if l > positions {
            let rule = format!("is more than the {positions} positions of this CLIP model");
            return Err(Error::invalid("CLIP prompt length", l, rule));
        }
        let mask = causal_mask(l, ids.device())?; // (1, 1, l, l)
        let position = self.position_embedding.narrow(0, 0, l)?; // (l, d)
        let tokens = self.token_embedding.forward(ids)?.to_dtype(DType::F32)?;
        let mut x = tokens.broadcast_add(&position.to_dtype(DType::F32)?)?; // (b, l, d)
        for layer in &self.layers {
            observer::proceed(observer)?;
            x = layer.forward(&x, &mask)?;
        }
        let last_hidden_state = self.final_layer_norm.forward_f32(&x)?; // (b, l, d)
        let pooled = self.pool(&last_hidden_state, ids)?; // (b, d)
        Ok(ClipEncoding { last_hidden_state, pooled })
    }

    /// The state (b, d) of each prompt's end.
    fn pool(&self, states: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let rows = ids.to_vec2::<u32>()?;
        let pooled = rows.iter().enumerate().map(|(row, ids)| states.get(row)?.get(self.end(ids)));
        Ok(Tensor::stack(&pooled.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }

    /// The place of a prompt's end; the first place where it has none.
    fn end(&self, ids: &[u32]) -> usize {
        let eos = match self.eos_token_id {
            UNKNOWN_EOS => ids.iter().max().copied(),
            eos => Some(eos),
        };
        ids.iter().position(|id| Some(*id) == eos).unwrap_or(0)
    }
}

/// 0 where a token may look and -∞ ahead of it, (1, 1, l, l).
fn causal_mask(l: usize, device: &Device) -> Result<Tensor> {
    let score = |query, key| if key > query { f32::NEG_INFINITY } else { 0.0 };
    let pairs = (0..l).flat_map(|query| (0..l).map(move |key| score(query, key)));
    Ok(Tensor::from_vec(pairs.collect(), (1, 1, l, l), device)?)
}

/// Attention to the layer's input, then two linear layers, each beside a residual.
struct ClipLayer {
    layer_norm1: LayerNorm,
    attention: ClipAttention,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl ClipLayer {
    fn load(weights: &Weights, config: &ClipTextConfig) -> Result<Self> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| LayerNorm::load(&weights.at(name), d, config.layer_norm_eps);
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            attention: ClipAttention::load(&weights.at("self_attn"), config)?,
            layer_norm2: norm("layer_norm2")?,
            fc1: Linear::load(&weights.at("mlp.fc1"), d, inner, Bias::Yes)?,
            fc2: Linear::load(&weights.at("mlp.fc2"), inner, d, Bias::Yes)?,
            activation: config.hidden_act,
        })
    }

    /// x (b, l, d) in f32 with the mask (1, 1, l, l).
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.layer_norm1.forward(x)?, mask)?)?;
        let y = self.activation.forward(&self.fc1.forward(&self.layer_norm2.forward(&x)?)?)?;
        Ok((x + self.fc2.forward_f32(&y)?)?)
    }
}

struct ClipAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

impl ClipAttention {
    fn load(weights: &Weights, config: &ClipTextConfig) -> Result<Self> {
        let d = config.hidden_size;
        let linear = |name: &str| Linear::load(&weights.at(name), d, d, Bias::Yes);
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads: config.num_attention_heads,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, l, d) = x.dims3()?;
        let split = |y: Tensor| y.reshape((b, l, self.heads, ()))?.transpose(1, 2); // (b, h, l, d/h)
        let q = split(self.q_proj.forward(x)?)?;
        let k = split(self.k_proj.forward(x)?)?;
        let v = split(self.v_proj.forward(x)?)?;
        let y = ops::attention(&q, &k, &v, &Attention { scale: None, bias: Some(mask) })?;
        self.out_proj.forward_f32(&y.transpose(1, 2)?.reshape((b, l, d))?) // (b, l, d)
    }
}
