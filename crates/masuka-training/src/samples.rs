//! Pictures that are drawn while the adapter is trained, always of the same prompts from the same noise.

use std::path::Path;

use masuka_diffusion::noise::Seed;
use masuka_diffusion::pictures::{Parameters, encode_png};
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::pipelines::{GenerateRequest, Guidance, PictureSize, SamplerName};

use crate::error::Result;
use crate::files::write_atomically;
use crate::observer::{Engine, Sample, TrainingObserver};

/// What is drawn, how often, and from which noise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// Steps between samples; 0 for none.
    pub every: usize,
    /// The prompts.
    pub prompts: Vec<String>,
    /// The seed of the first prompt's noise; the next takes the next.
    pub seed: u64,
    /// The side of the pictures.
    pub side: usize,
}

impl Samples {
    /// Draws every prompt with the adapter that stands beside the layers of `pipeline`, and writes the pictures into
    /// `folder`.
    pub(crate) fn draw(
        &self,
        step: usize,
        folder: &Path,
        pipeline: &mut FluxPipeline,
        observer: &dyn TrainingObserver,
    ) -> Result<()> {
        let defaults = pipeline.defaults();
        for (index, prompt) in self.prompts.iter().enumerate() {
            let request = GenerateRequest {
                prompt: prompt.clone(),
                guidance: Guidance { embedded: defaults.guidance, negative: None },
                steps: defaults.steps,
                sampler: SamplerName::Euler,
                size: PictureSize { width: self.side, height: self.side },
                seed: Seed::new(self.seed)?.offset(index as u64)?,
                num_images: 1,
            };
            let parameters = Parameters {
                prompt: prompt.clone(),
                seed: Some(request.seed.value()),
                steps: Some(request.steps),
                guidance: Some(request.guidance.embedded),
                ..Parameters::default()
            };
            let mut drawn = None;
            pipeline.generate(&request, &Engine(observer), &mut |generated| {
                drawn = Some(generated.picture);
                Ok(())
            })?;
            let Some(picture) = drawn else { continue };
            let png = encode_png(&picture.to_rgb8(), &parameters)?;
            let name = format!("step-{step:08}-{}.png", index + 1);
            let path = folder.join(name);
            write_atomically(&path, &png)?;
            observer.sample(&Sample { step, index, prompt, picture: &picture, path: &path });
        }
        Ok(())
    }
}
