//! Prompts become pictures, each from the noise of its place in the list.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use image::RgbImage;
use masuka_diffusion::adapters::{ChosenAdapter, LoraAdapter};
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, LoadOptions, Offload, Precision, SamplerName,
};

use crate::Result;

/// The starter model.
pub struct Painter {
    pub pipeline: FluxPipeline,
}

impl Painter {
    pub fn open() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/starter");
        let (device, precision, offload) = (Device::Cpu, Precision::F32, Offload::None);
        let options = LoadOptions { device, precision, offload, available_bytes: None };
        let pipeline = FluxPipeline::load(FluxFiles::folder(&folder), &options, &Unobserved)?;
        Ok(Self { pipeline })
    }

    /// One picture of each prompt, with an adapter at a weight.
    pub fn draw(
        &mut self,
        prompts: &[String],
        adapter: Option<(&Path, f64)>,
    ) -> Result<Vec<RgbImage>> {
        let mut chosen = Vec::new();
        if let Some((file, weight)) = adapter {
            let adapter = Arc::new(LoraAdapter::open(file)?);
            chosen.push(ChosenAdapter { adapter, weight, allow_partial: false });
        }
        self.pipeline.set_adapters(chosen)?;
        let mut pictures = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.iter().enumerate() {
            let request = self.request(prompt, Seed::new(index as u64)?);
            self.pipeline.generate(&request, &Unobserved, &mut |generated| {
                pictures.push(generated.picture.to_rgb8());
                Ok(())
            })?;
        }
        self.pipeline.set_adapters(Vec::new())?;
        Ok(pictures)
    }

    fn request(&self, prompt: &str, seed: Seed) -> GenerateRequest {
        let defaults = self.pipeline.defaults();
        GenerateRequest {
            prompt: prompt.to_owned(),
            guidance: Guidance { embedded: defaults.guidance, negative: None },
            steps: defaults.steps,
            sampler: SamplerName::Euler,
            size: defaults.size,
            seed,
            num_images: 1,
        }
    }
}
