//! FLUX.1: encode the prompt, prepare latents, denoise, decode.

mod encode_prompt; // prompt → tokens → conditioning
mod prepare_latents; // seed → noise
mod denoise; // noise → latents
mod decode_latents; // latents → picture
mod files; // which file gives which part
mod load; // files → components
mod memory; // what it all takes
mod base_layers; // what adapters need to know of the weights
mod preview; // how a picture on its way is seen
mod parts; // what a trainer takes: encoders and transformer on their own

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::adapters::{ChosenAdapter, Fit, LoraAdapter, Target, TensorCounts, apply};
use crate::error::Result;
use crate::latents::{LatentLayout, Latents};
use crate::observer::{self, Stage, StepObserver};
use crate::pipelines::component::Component;
use crate::pipelines::{
    GenerateRequest, GeneratedPicture, GenerationReport, LoadOptions, Offload, Picture,
    PictureSize, SIDE_RANGE, Timings,
};
use crate::samplers::ScheduleConfig;
use crate::transformers::flux::{FluxConfig, FluxTransformer};
use crate::vaes::{AutoencoderKl, AutoencoderKlConfig, Tiling};

use base_layers::FluxLayers;
use encode_prompt::{EncodedPrompt, PromptCache, PromptPair, Prompter, TextEncoders};
use memory::{Sizes, WeightBytes};

pub use encode_prompt::PromptTokens;
pub use files::FluxFiles;
pub use memory::MemoryEstimate;

/// What a model suggests where a user says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Sampler steps.
    pub steps: usize,
    /// Embedded guidance.
    pub guidance: f64,
    /// Width and height.
    pub size: PictureSize,
}

impl Defaults {
    /// What FLUX.1's own pipelines suggest: dev 30 steps, schnell 4, and the size of the pictures that the autoencoder
    /// was trained on; 128 latents a side where its configuration does not say.
    fn of(config: &FluxConfig, vae: &AutoencoderKlConfig, layout: &LatentLayout) -> Self {
        let side = vae.sample_size.unwrap_or(128 * layout.spatial_factor);
        let side = side.next_multiple_of(layout.size_multiple());
        let side = side.clamp(*SIDE_RANGE.start(), *SIDE_RANGE.end());
        Self {
            steps: if config.guidance_embeds { 30 } else { 4 },
            guidance: 3.5,
            size: PictureSize { width: side, height: side },
        }
    }
}

/// A FLUX.1 model, ready to draw.
pub struct FluxPipeline {
    files: FluxFiles,
    options: LoadOptions,
    config: FluxConfig,
    layout: LatentLayout,
    schedule: ScheduleConfig,
    defaults: Defaults,
    prompter: Prompter,
    cache: PromptCache,
    text_encoders: Component<TextEncoders>,
    transformer: Component<FluxTransformer>,
    vae: Component<AutoencoderKl>,
    vae_config: AutoencoderKlConfig,
    /// Known once it was asked for.
    weight_bytes: OnceLock<WeightBytes>,
    layers: FluxLayers,
    adapters: Vec<ChosenAdapter>,
}

/// A generation under way: who watches it, and where its time went.
struct Run<'a> {
    observer: &'a dyn StepObserver,
    timings: Timings,
}

impl Run<'_> {
    fn stage<T>(&mut self, stage: Stage, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = observer::in_stage(self.observer, stage, work);
        self.timings.add(stage, start.elapsed());
        result
    }
}

impl FluxPipeline {
    /// Opens a model; with [`Offload::None`] all of it is loaded, else each component when its turn comes.
    ///
    /// # Errors
    /// When files are missing, damaged or of another architecture, or too little memory is available.
    pub fn load(
        files: FluxFiles,
        options: &LoadOptions,
        observer: &dyn StepObserver,
    ) -> Result<Self> {
        let mut pipeline = load::open(files, options)?;
        pipeline.check_memory(pipeline.defaults.size)?;
        if options.offload == Offload::None {
            let mut run = Run { observer, timings: Timings::default() };
            run.stage(Stage::Load, || {
                pipeline.text_encoders.get()?;
                pipeline.transformer.get()?;
                pipeline.vae.get()?;
                Ok(())
            })?;
        }
        Ok(pipeline)
    }

    /// What the model suggests.
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// How latents relate to pixels.
    pub fn layout(&self) -> LatentLayout {
        self.layout
    }

    /// The transformer's sizes.
    pub fn config(&self) -> &FluxConfig {
        &self.config
    }

    /// Replaces the adapters in effect. Nothing is reloaded.
    ///
    /// # Errors
    /// When a weight is out of range, or an adapter does not fit the model; then the former ones stay.
    pub fn set_adapters(&mut self, chosen: Vec<ChosenAdapter>) -> Result<Vec<TensorCounts>> {
        let shape_of = |target, layer: &str| self.layers.shape(target, layer);
        let check = |choice: &ChosenAdapter| {
            choice.validate()?;
            choice.check(&shape_of)
        };
        let counts = chosen.iter().map(check).collect::<Result<_>>()?;
        let encodes_differently = |c: &ChosenAdapter| {
            c.adapter.updates().keys().any(|(target, _)| *target != Target::Transformer)
        };
        if chosen.iter().chain(&self.adapters).any(encodes_differently) {
            self.cache.clear();
        }
        self.adapters = chosen;
        if self.text_encoders.is_resident() {
            self.apply_text_adapters()?;
        }
        if self.transformer.is_resident() {
            self.apply_transformer_adapters()?;
        }
        Ok(counts)
    }

    /// How `adapter` fits the model; no weights are needed.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn fit(&self, adapter: &LoraAdapter) -> Result<Fit> {
        adapter.fit(&|target, layer| self.layers.shape(target, layer))
    }

    /// How `prompt` is split, and what of it would be cut; no weights are needed.
    ///
    /// # Errors
    /// When a tokenizer fails.
    pub fn tokenize(&self, prompt: &str) -> Result<PromptTokens> {
        self.prompter.tokenize(prompt)
    }

    /// What a picture of `size` takes.
    ///
    /// # Errors
    /// When a checkpoint cannot be opened any more.
    pub fn estimate_memory(&self, size: PictureSize) -> Result<MemoryEstimate> {
        let sizes = Sizes { config: &self.config, vae: &self.vae_config, options: &self.options };
        Ok(MemoryEstimate::of(&self.weight_bytes()?, &sizes, size))
    }

    /// Grants `free_bytes` of memory besides what is loaded; `None` is any.
    ///
    /// # Errors
    /// When a checkpoint cannot be opened any more.
    pub fn grant(&mut self, free_bytes: Option<u64>) -> Result<()> {
        let held = self.held_bytes()?;
        self.options.available_bytes = free_bytes.map(|free| free.saturating_add(held));
        Ok(())
    }

    /// Whether a picture of `size` fits into the memory that was granted.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) when it does not.
    pub fn check_room(&self, size: PictureSize) -> Result<()> {
        self.check_memory(size).map(drop)
    }

    /// Bytes of the weights that are loaded; of streamed blocks few are.
    fn held_bytes(&self) -> Result<u64> {
        let WeightBytes { text_encoders, transformer, vae, .. } = self.weight_bytes()?;
        let streams = self.options.offload == Offload::Blocks;
        let parts = [
            (text_encoders, self.text_encoders.is_resident()),
            (transformer, self.transformer.is_resident() && !streams),
            (vae, self.vae.is_resident()),
        ];
        Ok(parts.iter().filter(|(_, is_here)| *is_here).map(|(part, _)| part.held).sum())
    }

    fn weight_bytes(&self) -> Result<WeightBytes> {
        if let Some(known) = self.weight_bytes.get() {
            return Ok(*known);
        }
        let bytes = WeightBytes::of(&self.files, &self.config, &self.options)?;
        Ok(*self.weight_bytes.get_or_init(|| bytes))
    }

    /// Draws the pictures of `request` and hands each to `deliver` as soon as it is decoded.
    ///
    /// # Errors
    /// When a field is out of range, `observer` cancels, or `deliver` fails.
    pub fn generate(
        &mut self,
        request: &GenerateRequest,
        observer: &dyn StepObserver,
        deliver: &mut dyn FnMut(GeneratedPicture) -> Result<()>,
    ) -> Result<GenerationReport> {
        request.validate(self.layout.size_multiple())?;
        let tiling = self.check_memory(request.size)?;
        let mut run = Run { observer, timings: Timings::default() };
        let prompts = self.encode_prompts(request, &mut run)?;
        let noise = prepare_latents::prepare_latents(request, self.layout, &self.options.device)?;
        // With components in turn, the whole batch passes the transformer before the autoencoder comes in.
        let together = if self.options.offload == Offload::None { 1 } else { noise.len() };
        let mut index = 0;
        for noise in noise.chunks(together) {
            let latents = self.denoise(request, &prompts, index, noise, &mut run)?;
            for latents in &latents {
                let picture = self.decode(latents, tiling, &mut run)?;
                let seed = request.seed.offset(index as u64)?;
                deliver(GeneratedPicture { index, seed, picture })?;
                index += 1;
            }
        }
        Ok(self.report(request, &prompts, run.timings))
    }

    /// Refuses a picture of `size` that does not fit, and says how one that does is decoded.
    fn check_memory(&self, size: PictureSize) -> Result<Tiling> {
        let Some(available) = self.options.available_bytes else { return Ok(Tiling::Whole) };
        let estimate = self.estimate_memory(size)?;
        estimate.check(self.options.offload, available)?;
        Ok(estimate.tiling(self.options.offload, available))
    }

    fn encode_prompts(
        &mut self,
        request: &GenerateRequest,
        run: &mut Run<'_>,
    ) -> Result<PromptPair> {
        let positive = self.encode_prompt(&request.prompt, run)?;
        let negative = match request.guidance.true_cfg() {
            Some(negative) => Some(self.encode_prompt(&negative.prompt, run)?),
            None => None,
        };
        self.release_unless_kept();
        Ok(PromptPair { positive, negative })
    }

    fn encode_prompt(&mut self, prompt: &str, run: &mut Run<'_>) -> Result<Arc<EncodedPrompt>> {
        if let Some(known) = self.cache.get(prompt) {
            return Ok(known);
        }
        if !self.text_encoders.is_resident() {
            run.stage(Stage::Load, || self.text_encoders.get().map(|_| ()))?;
            self.apply_text_adapters()?;
        }
        let observer = run.observer;
        let encoders = self.text_encoders.get()?;
        let encoded =
            run.stage(Stage::EncodePrompt, || self.prompter.encode(encoders, prompt, observer))?;
        Ok(self.cache.insert(prompt, encoded))
    }

    fn denoise(
        &mut self,
        request: &GenerateRequest,
        prompts: &PromptPair,
        first_image: usize,
        noise: &[Latents],
        run: &mut Run<'_>,
    ) -> Result<Vec<Latents>> {
        if !self.transformer.is_resident() {
            run.stage(Stage::Load, || self.transformer.get().map(|_| ()))?;
            self.apply_transformer_adapters()?;
        }
        let observer = run.observer;
        let transformer = self.transformer.get()?;
        let walk = denoise::Walk { request, prompts, schedule: &self.schedule, first_image };
        let latents =
            run.stage(Stage::Denoise, || denoise::denoise(transformer, &walk, noise, observer))?;
        self.release_unless_kept();
        Ok(latents)
    }

    fn decode(&mut self, latents: &Latents, tiling: Tiling, run: &mut Run<'_>) -> Result<Picture> {
        if !self.vae.is_resident() {
            run.stage(Stage::Load, || self.vae.get().map(|_| ()))?;
        }
        let observer = run.observer;
        let vae = self.vae.get()?;
        run.stage(Stage::DecodeLatents, || {
            decode_latents::decode_latents(vae, latents, tiling, observer)
        })
    }

    fn report(
        &self,
        request: &GenerateRequest,
        prompts: &PromptPair,
        timings: Timings,
    ) -> GenerationReport {
        let t5_length = self.prompter.t5_length;
        let cut = |name: &str, prompt: &EncodedPrompt| {
            let cut = prompt.cut.as_ref()?;
            Some(format!("the {name} is longer than {t5_length} tokens; cut off: `{cut}`"))
        };
        let negative = prompts.negative.as_ref().and_then(|prompt| cut("negative prompt", prompt));
        let mut warnings: Vec<String> =
            cut("prompt", &prompts.positive).into_iter().chain(negative).collect();
        if request.guidance.negative.is_some() && request.guidance.true_cfg().is_none() {
            warnings.push(
                "the negative prompt has no effect: it needs a true CFG scale above 1".into(),
            );
        }
        GenerationReport {
            t5_tokens: prompts.positive.t5_tokens,
            clip_tokens: prompts.positive.clip_tokens,
            warnings,
            timings,
        }
    }

    /// With components in turn, gives back the memory of all of them.
    fn release_unless_kept(&mut self) {
        if self.options.offload != Offload::None {
            self.text_encoders.release();
            self.transformer.release();
            self.vae.release();
        }
    }

    fn apply_text_adapters(&mut self) -> Result<()> {
        let host = self.layers.host(&self.options);
        for (target, slots) in self.text_encoders.get()?.adapters() {
            apply(slots, *target, &self.adapters, &host)?;
        }
        Ok(())
    }

    fn apply_transformer_adapters(&mut self) -> Result<()> {
        let host = self.layers.host(&self.options);
        apply(self.transformer.get()?.adapters(), Target::Transformer, &self.adapters, &host)
    }
}
