//! The walk of a training: pictures → cache → steps → checkpoints → finished adapter.

mod state; // what every step changes
mod steps; // steps, checkpoints and samples

use std::path::PathBuf;

use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::pipelines::{PictureSize, Precision};

use crate::checkpoint::Checkpoint;
use crate::dataset::{Bucket, Buckets, CaptionedPicture, Dataset};
use crate::encoded::Encoder;
use crate::error::Result;
use crate::memory::{MemoryEstimate, Sizes};
use crate::observer::TrainingObserver;
use crate::pieces;
use crate::prior::Prior;
use crate::recipe::Recipe;
use crate::samples::Samples;
use crate::speed::Speed;
use state::State;
use steps::{Inputs, Trainer};

/// What is trained on what, and where things are put.
#[derive(Debug, Clone)]
pub struct Training {
    /// Pictures and captions.
    pub dataset: Dataset,
    /// What people call them.
    pub dataset_name: String,
    /// The finished adapter.
    pub output: PathBuf,
    /// Where checkpoints and samples are kept.
    pub run_folder: PathBuf,
    /// Where encoded pictures and captions are kept; runs may share it.
    pub cache_folder: PathBuf,
    /// What decides the adapter.
    pub recipe: Recipe,
    /// Steps between checkpoints.
    pub save_every: usize,
    /// What is drawn meanwhile.
    pub samples: Samples,
    /// The base model's name.
    pub base_model: String,
    /// Says which model it is, with all that its encoders depend on.
    pub model_fingerprint: String,
    /// Memory that may be taken, in bytes; `None` skips the estimate's refusal.
    pub available_bytes: Option<u64>,
    /// What wrote the adapter: name and version.
    pub software: String,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The adapter is written.
    Finished {
        /// The smoothed loss at the end.
        loss: f64,
    },
    /// The observer wanted to stop.
    Stopped {
        /// Steps done.
        step: usize,
        /// From where it goes on; none before the first step.
        checkpoint: Option<PathBuf>,
    },
}

impl Training {
    /// Where checkpoints are kept.
    pub fn checkpoints(&self) -> PathBuf {
        self.run_folder.join("checkpoints")
    }

    /// Runs the training, from `checkpoint` or from the start, on the model of `pipeline`, which is in the
    /// recipe's precision and has loaded nothing yet.
    ///
    /// # Errors
    /// When anything cannot be read or written, memory is short, the recipe is not the checkpoint's, or the loss is no
    /// number any more.
    pub fn run(
        &self,
        pipeline: &mut FluxPipeline,
        checkpoint: Option<Checkpoint>,
        observer: &dyn TrainingObserver,
    ) -> Result<Outcome> {
        let stopped = Outcome::Stopped { step: 0, checkpoint: None };
        let prepared = match self.prepare(pipeline, checkpoint, observer) {
            Err(error) if error.is_cancelled() => return Ok(stopped),
            prepared => prepared?,
        };
        prepared.run()
    }

    fn prepare<'a>(
        &'a self,
        pipeline: &'a mut FluxPipeline,
        checkpoint: Option<Checkpoint>,
        observer: &'a dyn TrainingObserver,
    ) -> Result<Trainer<'a>> {
        self.recipe.validate(pipeline.layout().size_multiple())?;
        let estimate = estimate_memory(pipeline, &self.recipe, self.samples.every > 0)?;
        observer.dataset(&self.dataset, &estimate);
        let keep = estimate.choose(self.available_bytes)?;
        let mut pictures = self.dataset.pictures.clone();
        let model = self.encoders();
        if self.recipe.prior_pictures > 0 {
            let folder = self.cache_folder.join("prior");
            let prior = Prior { folder: &folder, model: &model, recipe: &self.recipe };
            let drawn = prior.draw(&pictures, pipeline, observer)?;
            pictures.extend(drawn);
        }
        let device = pipeline.device().clone();
        let mut encoder = Encoder {
            folder: &self.cache_folder,
            model: &model,
            pipeline: &mut *pipeline,
            device: &device,
            observer,
        };
        let buckets = self.buckets(encoder.pipeline);
        let pictures = encoder.encode(&in_buckets(pictures, &buckets))?;
        let empty_caption = encoder.caption("")?;
        pipeline.release_encoders();
        let state = State::start(self, pipeline, checkpoint, &pictures, &device)?;
        let schedule = pipeline.schedule().clone();
        let speed = Speed::default();
        let own = self.dataset.pictures.len();
        let inputs = Inputs { pictures, own, empty_caption, schedule, device };
        Ok(Trainer { training: self, pipeline, observer, inputs, state, keep, speed })
    }

    /// Says which model encodes pictures and captions, and in which precision.
    fn encoders(&self) -> String {
        match self.recipe.dtype {
            Precision::F32 => self.model_fingerprint.clone(),
            dtype => format!("{} {dtype}", self.model_fingerprint),
        }
    }

    fn buckets(&self, pipeline: &FluxPipeline) -> Buckets {
        Buckets::new(self.recipe.resolution, pipeline.layout().size_multiple())
    }
}

/// What a training by `recipe` takes on the model of `pipeline`, whose weights are not read; `samples` says whether
/// pictures are drawn meanwhile.
///
/// # Errors
/// When the model's parts cannot be measured.
pub fn estimate_memory(
    pipeline: &FluxPipeline,
    recipe: &Recipe,
    samples: bool,
) -> Result<MemoryEstimate> {
    let multiple = pipeline.layout().size_multiple();
    let by_kernels = pipeline.device().is_cpu();
    let sizes = Sizes {
        text_tokens: pipeline.text_tokens(),
        image_tokens: (recipe.resolution / multiple).pow(2),
        pictures_at_once: if by_kernels { pieces::at_once(recipe.batch) } else { recipe.batch },
        pieces: if by_kernels { pieces::count(recipe.batch) } else { 1 },
        by_kernels,
        draws: samples || recipe.prior_pictures > 0,
    };
    let size = PictureSize { width: recipe.resolution, height: recipe.resolution };
    let estimate = pipeline.estimate_memory(size)?;
    Ok(MemoryEstimate::new(&estimate, pipeline.config(), recipe, sizes))
}

/// Each picture with the size that keeps its shape.
fn in_buckets(
    pictures: Vec<CaptionedPicture>,
    buckets: &Buckets,
) -> Vec<(CaptionedPicture, Bucket)> {
    let sized = pictures.into_iter().filter_map(|picture| {
        let bucket = buckets.nearest(picture.width, picture.height)?;
        Some((picture, bucket))
    });
    sized.collect()
}
