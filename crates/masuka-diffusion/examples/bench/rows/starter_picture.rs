//! The starter's 128×128 picture in 20 steps, prompt to pixels, the model loaded before.

use std::error::Error;

use candle_core::Device;
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, GeneratedPicture, Guidance, LoadOptions, Offload, PictureSize, SamplerName,
};

use super::{Run, repository};

/// The starter model in `variant`, a precision.
pub fn open(variant: &str) -> Result<Run, Box<dyn Error>> {
    let options = LoadOptions {
        device: Device::Cpu,
        precision: variant.parse()?,
        offload: Offload::None,
        available_bytes: None,
    };
    let files = FluxFiles::folder(&repository("models/starter"));
    let mut pipeline = FluxPipeline::load(files, &options, &Unobserved)?;
    Ok(Box::new(move |repetition| {
        let mut values = Vec::new();
        let mut deliver = |generated: GeneratedPicture| {
            values.extend_from_slice(generated.picture.values());
            Ok(())
        };
        pipeline.generate(&request(repetition)?, &Unobserved, &mut deliver)?;
        Ok(values)
    }))
}

/// Every repetition has a prompt of its own, since encoded prompts are kept.
fn request(repetition: usize) -> Result<GenerateRequest, masuka_diffusion::Error> {
    Ok(GenerateRequest {
        prompt: format!("red apple {repetition}, noto style"),
        guidance: Guidance { embedded: 3.5, negative: None },
        steps: 20,
        sampler: SamplerName::Euler,
        size: PictureSize { width: 128, height: 128 },
        seed: Seed::new(7)?,
        num_images: 1,
    })
}
