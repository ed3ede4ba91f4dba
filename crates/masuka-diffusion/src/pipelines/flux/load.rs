//! From files to components.

use std::sync::OnceLock;

use super::base_layers::FluxLayers;
use super::encode_prompt::{PromptCache, Prompter, TextEncoders};
use super::files::{FluxFiles, TokenizerOf};
use super::{Defaults, FluxPipeline};
use crate::adapters::Target;
use crate::adapters::lora_formats::canonical_module;
use crate::error::{Error, Result};
use crate::latents::LatentLayout;
use crate::layers::Residency;
use crate::pipelines::component::Component;
use crate::pipelines::{LoadOptions, Offload, Precision};
use crate::text_encoders::{ClipTextConfig, ClipTextEncoder, T5Config, T5Encoder};
use crate::tokenizers::PromptTokenizer;
use crate::transformers::flux::{FluxConfig, FluxTransformer};
use crate::vaes::{AutoencoderKl, AutoencoderKlConfig};
use crate::weights::Part;

/// The longest prompts that FLUX.1 was trained with, in T5 tokens: dev and schnell.
const T5_LENGTHS: [usize; 2] = [512, 256];

/// A pipeline whose components are known and not loaded yet.
pub(super) fn open(files: FluxFiles, options: &LoadOptions) -> Result<FluxPipeline> {
    files.check()?;
    if options.precision == Precision::Int8 && !options.device.is_cpu() {
        return Err(Error::invalid("dtype", "int8", "is for the processor only; use bf16"));
    }
    let config: FluxConfig = files.config(Part::Transformer)?;
    let vae: AutoencoderKlConfig = files.config(Part::Autoencoder)?;
    let layout = LatentLayout {
        channels: vae.latent_channels,
        spatial_factor: vae.spatial_factor(),
        temporal_factor: 1,
        patch: 2,
    };
    check_widths(&files, &config, &layout)?;
    let schedule = files.schedule(config.guidance_embeds)?;
    let clip = PromptTokenizer::clip(&files.tokenizer(TokenizerOf::Clip)?)?;
    let t5 = PromptTokenizer::t5(&files.tokenizer(TokenizerOf::T5)?)?;
    let t5_length = t5_length(config.guidance_embeds, t5.model_max_length());
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
        vae: autoencoder(files.clone(), options.clone(), vae.clone()),
        vae_config: vae,
        weight_bytes: OnceLock::new(),
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

/// Tokens that T5 is given: as many as the model was trained with, no more than its tokenizer allows.
fn t5_length(guidance_embeds: bool, model_max_length: usize) -> usize {
    T5_LENGTHS[usize::from(!guidance_embeds)].min(model_max_length)
}

/// Refuses parts that do not belong together.
fn check_widths(files: &FluxFiles, config: &FluxConfig, layout: &LatentLayout) -> Result<()> {
    let clip: ClipTextConfig = files.config(Part::TextEncoder)?;
    let t5: T5Config = files.config(Part::TextEncoder2)?;
    let token = layout.channels * layout.patch * layout.patch;
    let pairs = [
        ("packed latents of the autoencoder", token, "in_channels", config.in_channels),
        ("packed latents of the autoencoder", token, "out_channels", config.out_channels()),
        (
            "vectors of CLIP",
            clip.hidden_size,
            "pooled_projection_dim",
            config.pooled_projection_dim,
        ),
        ("tokens of T5", t5.d_model, "joint_attention_dim", config.joint_attention_dim),
    ];
    match pairs.iter().find(|(_, given, _, taken)| given != taken) {
        None => Ok(()),
        Some((what, given, field, taken)) => {
            let message = format!(
                "the {what} have {given} channels, the transformer's `{field}` is {taken}: the parts belong to \
                 different models (FLUX.1 Fill, Canny and Depth, which take more channels, are not supported)"
            );
            Err(Error::model(files.model.display(), message))
        }
    }
}

fn text_encoders(files: FluxFiles, options: LoadOptions) -> Component<TextEncoders> {
    Component::new(move || {
        let weights = files.weights(Part::TextEncoder, &options)?;
        let config: ClipTextConfig = files.config(Part::TextEncoder)?;
        let clip = ClipTextEncoder::load(&weights, &config)?;
        let clip_adapters = weights.finish()?.into_iter().map(|(module, slot)| {
            (canonical_module(Target::TextEncoder, &module).to_owned(), slot)
        });
        let weights = files.weights(Part::TextEncoder2, &options)?;
        let config: T5Config = files.config(Part::TextEncoder2)?;
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
        FluxTransformer::load(&files.weights(Part::Transformer, &options)?, &config, residency)
    })
}

fn autoencoder(
    files: FluxFiles,
    options: LoadOptions,
    config: AutoencoderKlConfig,
) -> Component<AutoencoderKl> {
    Component::new(move || {
        let weights = files.weights(Part::Autoencoder, &options)?;
        let vae = AutoencoderKl::load(&weights, &config)?;
        weights.finish()?;
        Ok(vae)
    })
}

#[cfg(test)]
mod tests {
    use super::t5_length;

    #[test]
    fn t5_is_given_512_tokens_by_dev_and_256_by_schnell_if_its_tokenizer_allows() {
        assert_eq!(t5_length(true, 512), 512);
        assert_eq!(t5_length(true, usize::MAX), 512);
        assert_eq!(t5_length(false, 512), 256);
        assert_eq!(t5_length(false, 16), 16);
        assert_eq!(t5_length(true, 77), 77);
    }
}
