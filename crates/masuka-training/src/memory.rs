//! What a training takes, before it starts.

use masuka_diffusion::pipelines::flux::MemoryEstimate as PipelineEstimate;
use masuka_diffusion::transformers::flux::FluxConfig;

use crate::adapter::Targets;
use crate::error::Result;
use crate::gradients::Keep;
use crate::recipe::Recipe;

const F32: u64 = 4;
/// The process itself, tokenizers, the allocator's reserves, and scratch that may lie on huge pages.
const BASE_BYTES: u64 = 72 << 20;

/// Numbers for each token and channel.
#[derive(Clone, Copy)]
struct Numbers {
    /// Of the model's dtype.
    narrow: u64,
    /// Of f32.
    wide: u64,
}

/// What the gradients of a pass need (counted in `transformers/flux/trained/`).
const DOUBLE: Numbers = Numbers { narrow: 16, wide: 4 };
const SINGLE: Numbers = Numbers { narrow: 15, wide: 2 };
/// What the way back through one block takes beside them at its widest.
const BACK: Numbers = Numbers { narrow: 15, wide: 8 };
/// Where the tensor library's graph takes the gradients: what products, norms and activations of a block need again, and
/// as many gradients of the largest of them.
const GRAPH: Numbers = Numbers { narrow: 0, wide: 60 };

/// What each part of a training takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights of the encoders, gone before the first step.
    pub encoders: u64,
    /// What encoding a picture takes beside them.
    pub encoding: u64,
    /// Weights of the transformer.
    pub transformer: u64,
    /// The adapter with its gradients, the optimiser's moments and the moving average.
    pub adapter: u64,
    /// The inputs of all blocks and one block's pass.
    pub activations_of_inputs: u64,
    /// The passes of all blocks.
    pub activations_of_everything: u64,
    /// Encoders and activations beside transformer and adapter when pictures are drawn meanwhile.
    pub drawing: u64,
}

/// The sizes that the estimate depends on.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Text tokens of a caption.
    pub text_tokens: usize,
    /// Tokens of the largest picture.
    pub image_tokens: usize,
    /// Pictures whose gradients are taken at the same time.
    pub pictures_at_once: usize,
    /// Parts of a batch that have gradients of their own before these are added up.
    pub pieces: usize,
    /// Whether gradients are taken by our kernels, as on the processor.
    pub by_kernels: bool,
    /// Whether pictures are drawn meanwhile.
    pub draws: bool,
}

impl MemoryEstimate {
    /// The estimate for `recipe` on a model of `config`.
    pub fn new(
        pipeline: &PipelineEstimate,
        config: &FluxConfig,
        recipe: &Recipe,
        sizes: Sizes,
    ) -> Self {
        let tokens = (sizes.pictures_at_once * (sizes.text_tokens + sizes.image_tokens)) as u64;
        let channels = tokens * config.hidden_size() as u64;
        let dtype = recipe.dtype.dtype().size_in_bytes() as u64;
        let bytes = |numbers: Numbers| channels * (numbers.narrow * dtype + numbers.wide * F32);
        let (doubles, singles) = (config.num_layers as u64, config.num_single_layers as u64);
        let (double, single, back) = match sizes.by_kernels {
            true => (bytes(DOUBLE), bytes(SINGLE), bytes(BACK)),
            false => (bytes(GRAPH), bytes(GRAPH), 0),
        };
        // For each layer, its input times A.
        let hidden = tokens * LAYERS_OF_A_PASS * recipe.size.rank as u64 * F32;
        let drawn = pipeline.denoise_activations.max(pipeline.decode_activations_in_bands);
        let encoders = pipeline.text_encoders + pipeline.vae;
        Self {
            encoders,
            encoding: pipeline.encode_activations,
            transformer: pipeline.transformer,
            adapter: adapter_bytes(config, recipe, sizes.pieces),
            activations_of_inputs: channels * F32 * (doubles + singles) + double + hidden + back,
            activations_of_everything: doubles * (double + hidden)
                + singles * (single + hidden)
                + back,
            drawing: if sizes.draws { encoders + drawn } else { 0 },
        }
    }

    /// The most that is taken at once.
    pub fn peak(&self, keep: Keep) -> u64 {
        let activations = match keep {
            Keep::Inputs => self.activations_of_inputs,
            Keep::Everything => self.activations_of_everything,
        };
        let training = self.transformer + self.adapter + activations.max(self.drawing);
        BASE_BYTES + (self.encoders + self.encoding).max(training)
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

/// Linear layers of both streams of a block.
const LAYERS_OF_A_PASS: u64 = 6;

/// Parameters, moments and moving average, beside the gradients while they are added up, what a step of the optimiser
/// puts in their place, or a checkpoint on its way to the disk.
fn adapter_bytes(config: &FluxConfig, recipe: &Recipe, pieces: usize) -> u64 {
    let kept = if recipe.ema_decay > 0.0 { 4 } else { 3 };
    let gradients = if pieces > 1 { pieces as u64 + 1 } else { 1 };
    let step = 4;
    adapter_parameters(config, recipe) * F32 * (kept + gradients.max(step).max(kept))
}

/// Numbers of A and B beside the layers of all blocks.
fn adapter_parameters(config: &FluxConfig, recipe: &Recipe) -> u64 {
    // Inputs and outputs of the layers of a double- and a single-stream block, in widths of the model: four products of
    // attention, two of the MLP and the modulation, of two streams; queries, keys and values, MLP, output and modulation.
    let [double, single] = match recipe.targets {
        Targets::Attention => [2 * 8, 6],
        Targets::AllLinear => [2 * (8 + 10 + 7), 6 + 5 + 6 + 4],
    };
    let widths = double * config.num_layers + single * config.num_single_layers;
    (widths * config.hidden_size() * recipe.size.rank) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SMALL: MemoryEstimate = MemoryEstimate {
        encoders: 10 * MIB,
        encoding: 20 * MIB,
        transformer: 100 * MIB,
        adapter: 10 * MIB,
        activations_of_inputs: 200 * MIB,
        activations_of_everything: 1000 * MIB,
        drawing: 0,
    };

    #[test]
    fn memory_decides_what_is_kept() {
        let estimate = SMALL;
        assert_eq!(estimate.choose(None).expect("fits"), Keep::Everything);
        assert_eq!(estimate.choose(Some(4096 * MIB)).expect("fits"), Keep::Everything);
        assert_eq!(estimate.choose(Some(1024 * MIB)).expect("fits"), Keep::Inputs);
        let error = estimate.choose(Some(200 * MIB)).expect_err("a refusal").to_string();
        assert!(error.contains("needs about 0.4 GiB, 0.2 GiB are available"), "{error}");
    }

    #[test]
    fn encoding_a_large_picture_counts_when_it_takes_the_most() {
        let encoding_most = MemoryEstimate { encoders: 100 * MIB, encoding: 900 * MIB, ..SMALL };
        assert_eq!(encoding_most.peak(Keep::Inputs), BASE_BYTES + 1000 * MIB);
        assert_eq!(SMALL.peak(Keep::Inputs), BASE_BYTES + 310 * MIB);
    }
}
