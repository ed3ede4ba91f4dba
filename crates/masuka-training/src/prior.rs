//! Prior preservation (arXiv:2208.12242, section 3.3): pictures that the base model draws of the same objects without
//! the trigger word, trained beside the others so that without the word everything stays as it was.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use masuka_diffusion::noise::Seed;
use masuka_diffusion::pictures::{Parameters, encode_png};
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::pipelines::{GenerateRequest, Guidance, PictureSize, SamplerName};
use sha2::{Digest, Sha256};

use crate::dataset::CaptionedPicture;
use crate::error::Result;
use crate::files::write_atomically;
use crate::gradients::{Batch, Learner};
use crate::observer::{Engine, Preparation, TrainingObserver};
use crate::pieces;
use crate::randomness::{self, Purpose};
use crate::recipe::Recipe;

/// Which pictures are drawn, and where they are kept.
pub struct Prior<'a> {
    /// The folder of the pictures; those that are there are not drawn again.
    pub folder: &'a Path,
    /// Says which model it is.
    pub model: &'a str,
    /// How many, how large, and from which seed.
    pub recipe: &'a Recipe,
}

impl Prior<'_> {
    /// Draws the pictures, one caption of `pictures` after the other, each time from other noise.
    ///
    /// # Errors
    /// When the observer stops or the disk refuses.
    pub fn draw(
        &self,
        pictures: &[CaptionedPicture],
        pipeline: &mut FluxPipeline,
        observer: &dyn TrainingObserver,
    ) -> Result<Vec<CaptionedPicture>> {
        let total = self.recipe.prior_pictures;
        let mut drawn = Vec::with_capacity(total);
        for index in 0..total {
            let captioned = &pictures[index % pictures.len()];
            let caption = without_trigger(&captioned.caption, self.recipe.trigger.as_deref());
            let mut generator =
                randomness::stream(self.recipe.seed()?, Purpose::Prior, index as u64)?;
            let seed = Seed::new(generator.next_u64() >> 32)?;
            let path = self.path(&caption, seed);
            if !path.exists() {
                self.draw_one(&path, &caption, seed, pipeline, observer)?;
            }
            let side = self.recipe.resolution;
            let name = format!("picture {} of the base model", index + 1);
            drawn.push(CaptionedPicture { path, name, caption, width: side, height: side });
            observer.preparing(Preparation::Priors, index + 1, total);
        }
        Ok(drawn)
    }

    fn draw_one(
        &self,
        path: &Path,
        caption: &str,
        seed: Seed,
        pipeline: &mut FluxPipeline,
        observer: &dyn TrainingObserver,
    ) -> Result<()> {
        let (side, defaults) = (self.recipe.resolution, pipeline.defaults());
        let request = GenerateRequest {
            prompt: caption.to_owned(),
            guidance: Guidance { embedded: defaults.guidance, negative: None },
            steps: defaults.steps,
            sampler: SamplerName::Euler,
            size: PictureSize { width: side, height: side },
            seed,
            num_images: 1,
        };
        let parameters = Parameters {
            prompt: caption.to_owned(),
            seed: Some(seed.value()),
            steps: Some(request.steps),
            guidance: Some(request.guidance.embedded),
            ..Parameters::default()
        };
        let mut png = Vec::new();
        pipeline.generate(&request, &Engine(observer), &mut |generated| {
            png = encode_png(&generated.picture.to_rgb8(), &parameters)?;
            Ok(())
        })?;
        write_atomically(path, &png)
    }

    fn path(&self, caption: &str, seed: Seed) -> PathBuf {
        let key =
            format!("{}\n{caption}\n{}\n{}", self.model, seed.value(), self.recipe.resolution);
        let digest: String =
            Sha256::digest(key).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(format!("{digest}.png"))
    }
}

/// What is asked of a batch when some of its pictures are the base model's own (`of_prior`): of those, what the model says
/// without the adapter, which is what is to be kept; a picture's own noise would say so only on average.
///
/// # Errors
/// When the device fails.
pub fn target(learner: &Learner<'_>, batch: &Batch, of_prior: &[bool]) -> Result<Option<Tensor>> {
    if !of_prior.contains(&true) {
        return Ok(None);
    }
    let noise_less_latents = batch.target()?;
    let kept = pieces::velocities_of_base(learner, batch, of_prior)?;
    let rows = kept.into_iter().enumerate().map(|(index, velocity)| match velocity {
        Some(velocity) => Ok(velocity),
        None => noise_less_latents.narrow(0, index, 1),
    });
    Ok(Some(Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)?))
}

/// The parts of `caption`, between commas, that do not hold `trigger`.
pub fn without_trigger(caption: &str, trigger: Option<&str>) -> String {
    let parts = caption.split(',').map(str::trim);
    let kept = parts.filter(|part| trigger.is_none_or(|trigger| !part.contains(trigger)));
    kept.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trigger_goes_with_all_that_belongs_to_it() {
        assert_eq!(without_trigger("green apple, TOK style", Some("TOK")), "green apple");
        assert_eq!(without_trigger("a photo of TOK", Some("TOK")), "");
        assert_eq!(without_trigger("a dog, at night", None), "a dog, at night");
    }
}
