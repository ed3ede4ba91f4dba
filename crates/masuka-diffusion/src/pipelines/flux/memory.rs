//! What a generation takes, before any weight is read, and which memory mode would fit.

use super::files::FluxFiles;
use crate::error::{Error, Result};
use crate::pipelines::{LoadOptions, Offload, PictureSize};
use crate::transformers::flux::FluxConfig;
use crate::vaes::{AutoencoderKlConfig, Tiling};
use crate::weights::{Part, Weights};

/// The process itself, tokenizers and the allocator's reserves.
const BASE_BYTES: u64 = 128 << 20;

/// What each part of a pipeline takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Weights of both text encoders.
    pub text_encoders: u64,
    /// Weights of the transformer.
    pub transformer: u64,
    /// Those of its weights that stay when blocks are streamed, with the largest block.
    pub transformer_streamed: u64,
    /// Weights of the autoencoder.
    pub vae: u64,
    /// Activations of a denoising step.
    pub denoise_activations: u64,
    /// Activations of decoding a picture whole.
    pub decode_activations: u64,
    /// Activations of decoding it in bands.
    pub decode_activations_in_bands: u64,
    /// Activations of encoding a picture, as training does.
    pub encode_activations: u64,
}

/// Bytes of the weights of a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartBytes {
    /// For as long as it is loaded.
    pub held: u64,
    /// Besides, while it computes.
    pub transient: u64,
}

/// Bytes of all weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightBytes {
    pub text_encoders: PartBytes,
    pub transformer: PartBytes,
    pub vae: PartBytes,
    blocks: BlockBytes,
}

/// What activations follow from.
pub(super) struct Sizes<'a> {
    pub config: &'a FluxConfig,
    pub vae: &'a AutoencoderKlConfig,
    pub options: &'a LoadOptions,
}

impl PartBytes {
    fn of(weights: &Weights) -> Self {
        Self { held: weights.bytes(), transient: weights.transient_bytes() }
    }

    fn peak(self) -> u64 {
        self.held + self.transient
    }
}

impl WeightBytes {
    /// Asks the heads of the checkpoints.
    ///
    /// # Errors
    /// When a checkpoint cannot be opened.
    pub fn of(files: &FluxFiles, config: &FluxConfig, options: &LoadOptions) -> Result<Self> {
        let part = |part| files.weights(part, options).map(|weights| PartBytes::of(&weights));
        let (clip, t5) = (part(Part::TextEncoder)?, part(Part::TextEncoder2)?);
        let transformer = files.weights(Part::Transformer, options)?;
        Ok(Self {
            text_encoders: PartBytes {
                held: clip.held + t5.held,
                transient: clip.transient + t5.transient,
            },
            blocks: transformer_blocks(&transformer, config),
            transformer: PartBytes::of(&transformer),
            vae: part(Part::Autoencoder)?,
        })
    }
}

impl MemoryEstimate {
    /// The estimate for one picture of `size`.
    pub(super) fn of(weights: &WeightBytes, sizes: &Sizes<'_>, size: PictureSize) -> Self {
        let Sizes { config, vae, options } = sizes;
        let WeightBytes { text_encoders, transformer, blocks, .. } = weights;
        let dtype = options.precision.dtype();
        let decode = |tiling| {
            vae.decode_peak_bytes((size.height, size.width), dtype, &options.device, tiling) as u64
        };
        Self {
            text_encoders: text_encoders.peak(),
            transformer: transformer.peak(),
            transformer_streamed: transformer.peak() - blocks.sum + blocks.largest,
            vae: weights.vae.peak(),
            denoise_activations: denoise_activations(config, options, size),
            decode_activations: decode(Tiling::Whole),
            decode_activations_in_bands: decode(Tiling::BANDS),
            encode_activations: vae.encode_peak_bytes(
                (size.height, size.width),
                dtype,
                &options.device,
            ) as u64,
        }
    }

    /// The peak in memory mode `offload`, with the least that decoding can do with.
    pub fn peak(&self, offload: Offload) -> u64 {
        let stage = |weights: u64, activations: u64| weights + activations;
        let resident = self.text_encoders + self.transformer + self.vae;
        let peak = match offload {
            Offload::None => {
                stage(resident, self.denoise_activations.max(self.decode_activations_in_bands))
            }
            Offload::Components => stage(self.transformer, self.denoise_activations)
                .max(self.text_encoders)
                .max(stage(self.vae, self.decode_activations_in_bands)),
            Offload::Blocks => stage(self.transformer_streamed, self.denoise_activations)
                .max(self.text_encoders)
                .max(stage(self.vae, self.decode_activations_in_bands)),
        };
        peak + BASE_BYTES
    }

    /// How a picture is decoded: whole where `available` bytes allow it in memory mode `offload`.
    pub(super) fn tiling(&self, offload: Offload, available: u64) -> Tiling {
        let weights = match offload {
            Offload::None => self.text_encoders + self.transformer + self.vae,
            Offload::Components | Offload::Blocks => self.vae,
        };
        let whole = BASE_BYTES + weights + self.decode_activations;
        if whole <= available { Tiling::Whole } else { Tiling::BANDS }
    }

    /// Refuses `offload` when it needs more than `available` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] naming what is needed, what there is, and the first mode that would fit.
    pub fn check(&self, offload: Offload, available: u64) -> Result<()> {
        let needed = self.peak(offload);
        if needed <= available {
            return Ok(());
        }
        let modes = [Offload::None, Offload::Components, Offload::Blocks];
        let fitting = modes.into_iter().find(|mode| self.peak(*mode) <= available);
        let remedy = match fitting {
            Some(mode) => format!("`--offload {mode}` needs {} and fits", gib(self.peak(mode))),
            None => format!(
                "even `--offload blocks` needs {}: use fewer or smaller pictures, a quantised model or a device \
                 with more memory",
                gib(self.peak(Offload::Blocks))
            ),
        };
        let message = format!(
            "memory mode `{offload}` needs about {}, {} are available; {remedy}",
            gib(needed),
            gib(available)
        );
        Err(Error::OutOfMemory(message))
    }
}

#[derive(Debug, Clone, Copy)]
struct BlockBytes {
    sum: u64,
    largest: u64,
}

fn transformer_blocks(weights: &Weights, config: &FluxConfig) -> BlockBytes {
    let stacks = [
        ("transformer_blocks", config.num_layers),
        ("single_transformer_blocks", config.num_single_layers),
    ];
    let blocks = stacks
        .into_iter()
        .flat_map(|(stack, count)| (0..count).map(move |i| weights.at(stack).at(i).bytes()));
    blocks.fold(BlockBytes { sum: 0, largest: 0 }, |all, bytes| BlockBytes {
        sum: all.sum + bytes,
        largest: all.largest.max(bytes),
    })
}

/// What a single-stream block holds at its widest, for one picture: in the stream's dtype the tokens, their norm,
/// queries, keys, values, attention's result, the MLP's hidden layer and both side by side; in f32 the stream itself
/// and what attention and the activation widen; and, but for the processor, one chunk of scores.
fn denoise_activations(config: &FluxConfig, options: &LoadOptions, size: PictureSize) -> u64 {
    const MAX_TEXT_TOKENS: u64 = 512;
    const SCORES: u64 = 4 * (64 << 20);
    let tokens = (size.width / 16 * (size.height / 16)) as u64 + MAX_TEXT_TOKENS;
    let width = config.hidden_size() as u64;
    let dtype = options.precision.dtype().size_in_bytes() as u64;
    let scores = if options.device.is_cpu() { 0 } else { SCORES };
    tokens * width * (15 * dtype + 10 * 4) + scores
}

/// `bytes` for people.
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}
