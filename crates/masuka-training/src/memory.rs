//! What a training takes, before it starts.

use masuka_diffusion::pipelines::flux::MemoryEstimate as PipelineEstimate;
use masuka_diffusion::transformers::flux::FluxConfig;

use crate::error::Result;
use crate::gradients::Keep;
use crate::recipe::Recipe;

const F32: u64 = 4;
/// The process itself, tokenizers and the allocator's reserves.
const BASE_BYTES: u64 = 256 << 20;
/// Four buffers of attention scores, and as many of their gradients.
const SCORES: u64 = 8 * (16 << 20);
/// Numbers that a block's graph holds for each token and channel: what its products, norms and activations need again
/// (counted in `transformers/flux/blocks.rs`), and as many gradients of the largest of them.
const GRAPH: u64 = 60;

/// What each part of a training takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights of the encoders, gone before the first step.
    pub encoders: u64,
    /// Weights of the transformer.
    pub transformer: u64,
    /// The adapter with its gradients, the optimiser's moments and the moving average.
    pub adapter: u64,
    /// The inputs of all blocks and one block's graph.
    pub activations_of_inputs: u64,
    /// The graphs of all blocks.
    pub activations_of_everything: u64,
}

/// The sizes that the estimate depends on.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Numbers of the adapter.
    pub adapter_parameters: u64,
    /// Text tokens of a caption.
    pub text_tokens: usize,
    /// Tokens of the largest picture.
    pub image_tokens: usize,
}

impl MemoryEstimate {
    /// The estimate for `recipe` on a model of `config`.
    pub fn new(
        pipeline: &PipelineEstimate,
        config: &FluxConfig,
        recipe: &Recipe,
        sizes: Sizes,
    ) -> Self {
        let tokens = (recipe.batch * (sizes.text_tokens + sizes.image_tokens)) as u64;
        let stream = tokens * config.hidden_size() as u64 * F32;
        let blocks = (config.num_layers + config.num_single_layers) as u64;
        let copies = if recipe.ema_decay > 0.0 { 5 } else { 4 };
        Self {
            encoders: pipeline.text_encoders + pipeline.vae,
            transformer: pipeline.transformer,
            adapter: sizes.adapter_parameters * F32 * copies,
            activations_of_inputs: stream * (blocks + GRAPH) + SCORES,
            activations_of_everything: stream * blocks * GRAPH + SCORES,
        }
    }

    /// The most that is taken at once.
    pub fn peak(&self, keep: Keep) -> u64 {
        let activations = match keep {
            Keep::Inputs => self.activations_of_inputs,
            Keep::Everything => self.activations_of_everything,
        };
        BASE_BYTES + self.encoders.max(self.transformer + self.adapter + activations)
    }

    /// The faster way that fits into half of `available` bytes, else the one that fits.
    ///
    /// # Errors
    /// [`masuka_diffusion::Error::OutOfMemory`] naming what is needed and what there is.
    pub fn choose(&self, available: Option<u64>) -> Result<Keep> {
        let Some(available) = available else { return Ok(Keep::Everything) };
        if self.peak(Keep::Everything) <= available / 2 {
            return Ok(Keep::Everything);
        }
        let needed = self.peak(Keep::Inputs);
        if needed <= available {
            return Ok(Keep::Inputs);
        }
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        let message = format!(
            "this training needs about {}, {} are available; choose a smaller `batch`, `resolution` or `rank`, or a \
             smaller model",
            gib(needed),
            gib(available)
        );
        Err(masuka_diffusion::Error::OutOfMemory(message).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_decides_what_is_kept() {
        let mib = 1 << 20;
        let estimate = MemoryEstimate {
            encoders: 10 * mib,
            transformer: 100 * mib,
            adapter: 10 * mib,
            activations_of_inputs: 200 * mib,
            activations_of_everything: 1000 * mib,
        };
        assert_eq!(estimate.choose(None).expect("fits"), Keep::Everything);
        assert_eq!(estimate.choose(Some(4096 * mib)).expect("fits"), Keep::Everything);
        assert_eq!(estimate.choose(Some(1024 * mib)).expect("fits"), Keep::Inputs);
        let error = estimate.choose(Some(500 * mib)).expect_err("a refusal").to_string();
        assert!(error.contains("needs about 0.6 GiB, 0.5 GiB are available"), "{error}");
    }
}
