//! The FLUX.1 denoiser, after black-forest-labs/flux `src/flux/model.py` @ 802fb47. Weights by diffusers' names.
//!
//! Tokens are text (`txt`) first, then image (`img`); `vec` is what modulates every block: time, guidance and the
//! pooled prompt.

mod blocks; // double- and single-stream blocks
mod config; // sizes
mod shapes; // sizes, from the shapes of a checkpoint's tensors
mod embeddings; // time, guidance and pooled prompt as one vector
mod trained; // blocks with their gradients, on the processor
mod positions; // rotary tables over (picture, row, column)

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::adapters::AdapterSlot;
use crate::conditioning::Conditioning;
use crate::error::Result;
use crate::layers::{Bias, Blocks, Linear, Residency};
use crate::observer::{self, StepObserver};
use crate::ops;
use crate::weights::Weights;

use blocks::{DoubleStreamBlock, SingleStreamBlock};
pub use config::FluxConfig;
use embeddings::VectorEmbedding;
pub use positions::RotaryTables;
pub use trained::BlockPass;

const LAYER_NORM_EPS: f64 = 1e-6;

/// The FLUX.1 transformer: packed latents, a time and a prompt in, velocity out.
pub struct FluxTransformer {
    config: FluxConfig,
    x_embedder: Linear,
    context_embedder: Linear,
    vector_embedding: VectorEmbedding,
    double_blocks: Blocks<DoubleStreamBlock>,
    single_blocks: Blocks<SingleStreamBlock>,
    norm_out: Linear,
    proj_out: Linear,
    adapters: BTreeMap<String, Arc<AdapterSlot>>,
}

/// What no step changes: embedded prompt, positions, and the part of `vec` that does not depend on time.
pub struct Prepared {
    txt: Tensor,      // (b, l_txt, d)
    vec: Tensor,      // (b, d)
    pe: RotaryTables, // over l_txt + l_img
}

impl FluxTransformer {
    /// Loads the transformer; its blocks stay on the device or pass through it, as `residency` says.
    ///
    /// # Errors
    /// When the configuration is impossible, or tensors are missing, unknown or of another shape.
    pub fn load(weights: &Weights, config: &FluxConfig, residency: Residency) -> Result<Self> {
        config.validate("transformer/config.json")?;
        let d = config.hidden_size();
        let token_out = config.out_channels();
        let linear = |name: &str, i, o| Linear::load(&weights.at(name), i, o, Bias::Yes);
        let (doubles, singles) = (config.num_layers, config.num_single_layers);
        let transformer = Self {
            config: config.clone(),
            x_embedder: linear("x_embedder", config.in_channels, d)?,
            context_embedder: linear("context_embedder", config.joint_attention_dim, d)?,
            vector_embedding: VectorEmbedding::load(&weights.at("time_text_embed"), config)?,
            double_blocks: Blocks::load(
                &weights.at("transformer_blocks"),
                doubles,
                config,
                residency,
            )?,
            single_blocks: Blocks::load(
                &weights.at("single_transformer_blocks"),
                singles,
                config,
                residency,
            )?,
            norm_out: linear("norm_out.linear", d, 2 * d)?,
            proj_out: linear("proj_out", d, token_out)?,
            adapters: weights.finish()?,
        };
        Ok(transformer)
    }

    /// Whether the weight `name` may be quantised: the matrices of the blocks, but not those that modulate.
    pub fn takes_int8(name: &str) -> bool {
        let stacks = ["transformer_blocks.", "single_transformer_blocks."];
        stacks.iter().any(|stack| name.starts_with(stack)) && !name.contains(".norm")
    }

    /// The sizes.
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// The adapter slots of all linear layers, by module name.
    pub fn adapters(&self) -> &BTreeMap<String, Arc<AdapterSlot>> {
        &self.adapters
    }

    /// Does once what every step needs, for pictures of `rows` × `columns` tokens, with each one's guidance scale
    /// (one for all will do; without effect on models that have no guidance embedding).
    ///
    /// # Errors
    /// When `conditioning` has other widths than the configuration.
    pub fn prepare(
        &self,
        conditioning: &Conditioning,
        (rows, columns): (usize, usize),
        guidance: &[f32],
    ) -> Result<Prepared> {
        let txt = conditioning.txt.to_dtype(DType::F32)?;
        let pooled = conditioning.pooled.to_dtype(DType::F32)?;
        let (_, text_tokens, _) = txt.dims3()?;
        let axes = &self.config.axes_dims_rope;
        Ok(Prepared {
            txt: self.context_embedder.forward(&txt)?,
            vec: self.vector_embedding.prompt(&pooled, guidance)?,
            pe: RotaryTables::new(axes, text_tokens, (rows, columns), txt.device())?,
        })
    }

    /// The velocity (b, l_img, c) in f32 of packed latents (b, l_img, c) at their sigmas (0 clean, 1 noise; one or b).
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] between blocks, or a failure of the device.
    pub fn forward(
        &self,
        latents: &Tensor,
        sigmas: &[f32],
        prepared: &Prepared,
        observer: &dyn StepObserver,
    ) -> Result<Tensor> {
        let (mut tokens, vec) = self.start(latents, sigmas, prepared)?;
        for index in 0..self.blocks() {
            observer::proceed(observer)?;
            tokens = self.block(index, &tokens, &vec, prepared)?;
        }
        self.finish(&tokens, &vec, prepared)
    }

    /// How many blocks there are between [`start`](Self::start) and [`finish`](Self::finish).
    pub fn blocks(&self) -> usize {
        self.double_blocks.len() + self.single_blocks.len()
    }

    /// The first part of [`forward`](Self::forward): the tokens as the first block sees them, and the vector (b, d)
    /// that modulates every block.
    ///
    /// # Errors
    /// When the latents have another width than the configuration.
    pub fn start(
        &self,
        latents: &Tensor,
        sigmas: &[f32],
        prepared: &Prepared,
    ) -> Result<(Tokens, Tensor)> {
        let vec =
            self.vector_embedding.time(sigmas, &prepared.vec)?.broadcast_add(&prepared.vec)?; // (b, d)
        let vec = ops::silu(&vec)?; // every modulation starts with it
        let img = self.x_embedder.forward(&latents.to_dtype(DType::F32)?)?; // (b, l_img, d)
        let txt = prepared.txt.clone(); // (b, l_txt, d)
        Ok((Tokens::Streams { img, txt }, vec))
    }

    /// The middle part of [`forward`](Self::forward): block `index` of the double-stream, then the single-stream ones.
    ///
    /// # Errors
    /// When the device fails.
    pub fn block(
        &self,
        index: usize,
        tokens: &Tokens,
        vec: &Tensor,
        prepared: &Prepared,
    ) -> Result<Tokens> {
        let (doubles, pe) = (self.double_blocks.len(), &prepared.pe);
        match tokens {
            Tokens::Streams { img, txt } if index < doubles => {
                let (img, txt) =
                    self.double_blocks.with(index, |b| b.forward(img, txt, vec, pe))?;
                Ok(Tokens::Streams { img, txt })
            }
            tokens => {
                let tokens = tokens.joined()?;
                let block = index - doubles;
                let tokens = self.single_blocks.with(block, |b| b.forward(&tokens, vec, pe))?;
                Ok(Tokens::Joined(tokens))
            }
        }
    }

    /// The last part of [`forward`](Self::forward): the velocity of the image tokens.
    ///
    /// # Errors
    /// When the device fails.
    pub fn finish(&self, tokens: &Tokens, vec: &Tensor, prepared: &Prepared) -> Result<Tensor> {
        let text_tokens = prepared.txt.dim(1)?;
        let tokens = tokens.joined()?; // (b, l_txt + l_img, d)
        let img = tokens.narrow(1, text_tokens, tokens.dim(1)? - text_tokens)?.contiguous()?; // (b, l_img, d)
        let modulation = self.norm_out.forward(vec)?.chunk(2, 1)?;
        let (scale, shift) = (&modulation[0], &modulation[1]);
        let img = ops::modulated_layer_norm(&img, scale, shift, LAYER_NORM_EPS, DType::F32)?;
        self.proj_out.forward(&img)
    }
}

/// Tokens on their way through the blocks.
#[derive(Debug, Clone)]
pub enum Tokens {
    /// Until the last double-stream block.
    Streams {
        /// (b, l_img, d)
        img: Tensor,
        /// (b, l_txt, d)
        txt: Tensor,
    },
    /// From the first single-stream block on: text, then image, (b, l_txt + l_img, d).
    Joined(Tensor),
}

impl Tokens {
    /// Text and image in one stream.
    fn joined(&self) -> Result<Tensor> {
        match self {
            Self::Streams { img, txt } => Ok(Tensor::cat(&[txt, img], 1)?),
            Self::Joined(tokens) => Ok(tokens.clone()),
        }
    }
}
