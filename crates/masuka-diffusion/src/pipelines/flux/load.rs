//! From files to components.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::base_layers::FluxLayers;
use super::encode_prompt::{PromptCache, Prompter, TextEncoders};
use super::{Defaults, FluxPipeline};
use crate::adapters::Target;
use crate::adapters::lora_formats::canonical_module;
use crate::error::Result;
use crate::files::read_json;
use crate::latents::LatentLayout;
use crate::layers::Residency;
use crate::pipelines::component::Component;
use crate::pipelines::{LoadOptions, Offload};
use crate::samplers::ScheduleConfig;
use crate::text_encoders::{ClipTextConfig, ClipTextEncoder, T5Config, T5Encoder};
use crate::tokenizers::PromptTokenizer;
use crate::transformers::flux::{FluxConfig, FluxTransformer};
use crate::vaes::{AutoencoderKl, AutoencoderKlConfig};
use crate::weights::Weights;
use crate::weights::source::SafetensorsFolder;

/// The longest prompts that FLUX.1 was trained with, in T5 tokens: dev and schnell.
const T5_LENGTHS: [usize; 2] = [512, 256];

/// The files of a FLUX.1 model.
#[derive(Debug, Clone)]
pub struct FluxFiles {
    root: PathBuf,
}

impl FluxFiles {
    /// A folder in diffusers' layout.
    pub fn folder(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What messages call the model.
    pub(super) fn name(&self) -> String {
        self.root.display().to_string()
    }

    pub(super) fn config<T: DeserializeOwned>(&self, component: &str) -> Result<T> {
        read_json(&self.root.join(component).join("config.json"), component)
    }

    pub(super) fn weights(&self, component: &str, options: &LoadOptions) -> Result<Weights> {
        let source = SafetensorsFolder::open(&self.root.join(component))?;
        Ok(Weights::new(Box::new(source), options.precision.dtype(), &options.device))
    }
}

/// A pipeline whose components are known and not loaded yet.
pub(super) fn open(files: FluxFiles, options: &LoadOptions) -> Result<FluxPipeline> {
    let config: FluxConfig = files.config("transformer")?;
    let vae: AutoencoderKlConfig = files.config("vae")?;
    let layout = LatentLayout {
        channels: vae.latent_channels,
        spatial_factor: vae.spatial_factor(),
        temporal_factor: 1,
        patch: 2,
    };
    let schedule: ScheduleConfig =
        read_json(&files.root.join("scheduler/scheduler_config.json"), "scheduler")?;
    schedule.validate("scheduler/scheduler_config.json")?;
    let clip = PromptTokenizer::clip(&files.root.join("tokenizer"))?;
    let t5 = PromptTokenizer::t5(&files.root.join("tokenizer_2"))?;
    let t5_length = T5_LENGTHS[usize::from(!config.guidance_embeds)].min(t5.model_max_length());
    let prompter = Prompter {
        clip_length: clip.model_max_length(),
        t5_length,
        clip,
        t5,
        device: options.device.clone(),
    };
    Ok(FluxPipeline {
        defaults: Defaults::of(&config, &vae, &layout),
        text_encoders: text_encoders(files.clone(), options.clone()),
        transformer: transformer(files.clone(), options.clone(), config.clone()),
        vae: autoencoder(files.clone(), options.clone(), vae),
        layers: FluxLayers::new(&files, options)?,
        files,
        options: options.clone(),
        config,
        layout,
        schedule,
        prompter,
        cache: PromptCache::default(),
        adapters: Vec::new(),
    })
}

fn text_encoders(files: FluxFiles, options: LoadOptions) -> Component<TextEncoders> {
    Component::new(move || {
        let weights = files.weights("text_encoder", &options)?;
        let config: ClipTextConfig = files.config("text_encoder")?;
        let clip = ClipTextEncoder::load(&weights, &config)?;
        let clip_adapters = weights.finish()?.into_iter().map(|(module, slot)| {
            (canonical_module(Target::TextEncoder, &module).to_owned(), slot)
        });
        let weights = files.weights("text_encoder_2", &options)?;
        let config: T5Config = files.config("text_encoder_2")?;
        let t5 = T5Encoder::load(&weights, &config)?;
        let adapters = [
            (Target::TextEncoder, clip_adapters.collect()),
            (Target::TextEncoder2, weights.finish()?),
        ];
        Ok(TextEncoders { clip, t5, adapters: adapters.into() })
    })
}

fn transformer(
    files: FluxFiles,
    options: LoadOptions,
    config: FluxConfig,
) -> Component<FluxTransformer> {
    let residency = match options.offload {
        Offload::Blocks => Residency::Streamed,
        Offload::None | Offload::Components => Residency::Resident,
    };
    Component::new(move || {
        FluxTransformer::load(&files.weights("transformer", &options)?, &config, residency)
    })
}

fn autoencoder(
    files: FluxFiles,
    options: LoadOptions,
    config: AutoencoderKlConfig,
) -> Component<AutoencoderKl> {
    Component::new(move || {
        let weights = files.weights("vae", &options)?;
        let vae = AutoencoderKl::load(&weights, &config)?;
        weights.finish()?;
        Ok(vae)
    })
}
