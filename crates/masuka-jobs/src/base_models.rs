//! What a base model suggests, allows and takes, asked of the engine once, so that nobody else repeats it.

use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    LoadOptions, MAX_IMAGES, MAX_PROMPT_CHARS, MAX_STEPS, Offload, Precision, SIDE_RANGE,
    SamplerName,
};
use masuka_storage::base_models::{
    BaseModelFacts, GenerationDefaults, GenerationLimits, MemoryNeed,
};

/// The family's name in the HTTP interface.
pub const FLUX: &str = "flux";

/// Reads the model's configuration, tokenizers and the heads of its weights, but no weights. What it takes is told for
/// `precision` on a processor.
///
/// # Errors
/// When files are missing, damaged or of another architecture.
pub fn describe(
    files: FluxFiles,
    precision: Precision,
) -> masuka_diffusion::Result<BaseModelFacts> {
    let options = LoadOptions {
        device: DeviceKind::Cpu.open()?,
        precision,
        offload: Offload::Components,
        available_bytes: None,
    };
    let pipeline = FluxPipeline::open(files, &options)?;
    let defaults = pipeline.defaults();
    let estimate = pipeline.estimate_memory(defaults.size)?;
    let memory = [Offload::None, Offload::Components, Offload::Blocks]
        .map(|mode| MemoryNeed { offload: mode.name().into(), bytes: estimate.peak(mode) });
    Ok(BaseModelFacts {
        defaults: GenerationDefaults {
            num_inference_steps: defaults.steps as u64,
            guidance_scale: defaults.guidance,
            width: defaults.size.width as u64,
            height: defaults.size.height as u64,
        },
        limits: GenerationLimits {
            size_multiple: pipeline.layout().size_multiple() as u64,
            min_side: *SIDE_RANGE.start() as u64,
            max_side: *SIDE_RANGE.end() as u64,
            max_prompt_chars: MAX_PROMPT_CHARS as u64,
            max_images: MAX_IMAGES as u64,
            max_steps: MAX_STEPS as u64,
            samplers: SamplerName::ALL.iter().map(ToString::to_string).collect(),
        },
        memory: memory.into(),
    })
}
