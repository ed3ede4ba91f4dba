//! The walk of a training: pictures → cache → steps → checkpoints → finished adapter.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::samplers::ScheduleConfig;
use sha2::{Digest, Sha256};

use crate::adapter::TrainedAdapter;
use crate::checkpoint::Checkpoint;
use crate::curve::LossCurve;
use crate::dataset::{BatchOrder, Bucket, Buckets, CaptionedPicture, Dataset};
use crate::encoded::{EncodedPicture, Encoder, read_conditioning};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::finished::{self, Provenance};
use crate::gradients::{Batch, Gradients, Keep, Learner};
use crate::memory::{MemoryEstimate, Sizes};
use crate::observer::{StepReport, TrainingObserver, Wish};
use crate::optimizer::{AdamW, MovingAverage};
use crate::prior::Prior;
use crate::randomness::{self, Purpose};
use crate::recipe::Recipe;
use crate::samples::Samples;
use crate::speed::Speed;
use crate::timesteps::sample_sigmas;

/// What is trained on what, and where things are put.
#[derive(Debug, Clone)]
pub struct Training {
    /// The folder of pictures and captions.
    pub dataset: PathBuf,
    /// The finished adapter.
    pub output: PathBuf,
    /// Where cache, checkpoints and samples are kept.
    pub run_folder: PathBuf,
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

    /// Runs the training, from `checkpoint` or from the start, on the model of `pipeline`, which has loaded nothing yet.
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
        let dataset = Dataset::open(&self.dataset, self.recipe.trigger.as_deref())?;
        let keep = self.check_memory(pipeline, &dataset, observer)?;
        let mut pictures = dataset.pictures;
        if self.recipe.prior_pictures > 0 {
            let folder = self.run_folder.join("prior");
            let (model, recipe) = (self.model_fingerprint.as_str(), &self.recipe);
            let prior = Prior { folder: &folder, model, recipe };
            let drawn = prior.draw(&pictures, pipeline, observer)?;
            pictures.extend(drawn);
        }
        let folder = self.run_folder.join("cache");
        let (model, device) = (self.model_fingerprint.as_str(), pipeline.device().clone());
        let mut encoder =
            Encoder { folder: &folder, model, pipeline: &mut *pipeline, device: &device, observer };
        let pictures = encoder.encode(&in_buckets(pictures, &self.buckets(encoder.pipeline)))?;
        let empty_caption = encoder.caption("")?;
        pipeline.release_encoders();
        let state = State::start(self, pipeline, checkpoint, &pictures, &device)?;
        let schedule = pipeline.schedule().clone();
        let speed = Speed::default();
        let inputs = Inputs { pictures, empty_caption, schedule, device };
        Ok(Trainer { training: self, pipeline, observer, inputs, state, keep, speed })
    }

    fn buckets(&self, pipeline: &FluxPipeline) -> Buckets {
        Buckets::new(self.recipe.resolution, pipeline.layout().size_multiple())
    }

    fn check_memory(
        &self,
        pipeline: &FluxPipeline,
        dataset: &Dataset,
        observer: &dyn TrainingObserver,
    ) -> Result<Keep> {
        let multiple = pipeline.layout().size_multiple();
        let size = masuka_diffusion::pipelines::PictureSize {
            width: self.recipe.resolution,
            height: self.recipe.resolution,
        };
        let config = pipeline.config();
        let per_block = 24 * config.hidden_size() * self.recipe.size.rank; // A and B of a block's layers, about
        let sizes = Sizes {
            adapter_parameters: (per_block * (config.num_layers + config.num_single_layers)) as u64,
            text_tokens: pipeline.text_tokens(),
            image_tokens: (self.recipe.resolution / multiple).pow(2),
        };
        let estimate = pipeline.estimate_memory(size)?;
        let estimate = MemoryEstimate::new(&estimate, config, &self.recipe, sizes);
        observer.dataset(dataset, &estimate);
        estimate.choose(self.available_bytes)
    }
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

/// What no step changes.
struct Inputs {
    pictures: Vec<EncodedPicture>,
    empty_caption: PathBuf,
    schedule: ScheduleConfig,
    device: Device,
}

/// What every step changes, and a checkpoint holds.
struct State {
    adapter: TrainedAdapter,
    optimizer: AdamW,
    average: Option<MovingAverage>,
    curve: LossCurve,
    order: BatchOrder,
    /// The hash of the pictures and captions.
    pictures: String,
}

impl State {
    fn start(
        training: &Training,
        pipeline: &mut FluxPipeline,
        checkpoint: Option<Checkpoint>,
        pictures: &[EncodedPicture],
        device: &Device,
    ) -> Result<Self> {
        let recipe = &training.recipe;
        let seed = recipe.seed()?;
        let hash = hash_of(pictures);
        let slots = pipeline.transformer()?.adapters();
        let buckets = pictures.iter().map(|picture| picture.bucket).collect();
        let mut order = BatchOrder::new(buckets, recipe.batch, seed);
        let Some(checkpoint) = checkpoint else {
            let adapter = TrainedAdapter::new(slots, recipe.targets, recipe.size, seed, device)?;
            let optimizer = AdamW::new(recipe.optimizer, adapter.parameters())?;
            let average = (recipe.ema_decay > 0.0)
                .then(|| MovingAverage::start(recipe.ema_decay, adapter.parameters()))
                .transpose()?;
            let curve = LossCurve::default();
            return Ok(Self { adapter, optimizer, average, curve, order, pictures: hash });
        };
        check_same(training, &checkpoint, &hash)?;
        let tensors = &checkpoint.tensors;
        let adapter =
            TrainedAdapter::from_tensors(slots, recipe.targets, recipe.size, tensors, device)?;
        let names = adapter.names();
        let all = |kind: &str| names.iter().map(|name| take(tensors, kind, name, device)).collect();
        let (means, squares): (Vec<_>, Vec<_>) = (all_of(all("mean"))?, all_of(all("square"))?);
        let moments = means.into_iter().zip(squares).map(|(mean, square)| [mean, square]);
        let optimizer = AdamW::resume(recipe.optimizer, checkpoint.step(), moments.collect());
        let average = (recipe.ema_decay > 0.0)
            .then(|| Ok::<_, Error>(MovingAverage::new(recipe.ema_decay, all_of(all("ema"))?)))
            .transpose()?;
        for _ in 0..checkpoint.step() * recipe.accumulation {
            order.next_batch()?;
        }
        let curve = LossCurve::new(checkpoint.losses);
        Ok(Self { adapter, optimizer, average, curve, order, pictures: hash })
    }

    /// What the finished adapter would be if this step were the last.
    fn values(&self) -> Vec<Tensor> {
        match &self.average {
            Some(average) => average.values().to_vec(),
            None => {
                self.adapter.parameters().iter().map(candle_core::Var::as_detached_tensor).collect()
            }
        }
    }

    fn checkpoint(&self, recipe: &Recipe) -> Checkpoint {
        let names = self.adapter.names();
        let mut tensors = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            let [mean, square] = &self.optimizer.moments()[index];
            let value = self.adapter.parameters()[index].as_detached_tensor();
            tensors.insert(name.clone(), value);
            tensors.insert(format!("mean.{name}"), mean.clone());
            tensors.insert(format!("square.{name}"), square.clone());
            if let Some(average) = &self.average {
                tensors.insert(format!("ema.{name}"), average.values()[index].clone());
            }
        }
        let (pictures, losses) = (self.pictures.clone(), self.curve.losses().to_vec());
        Checkpoint { recipe: recipe.clone(), pictures, losses, tensors }
    }
}

fn all_of(tensors: Vec<Result<Tensor>>) -> Result<Vec<Tensor>> {
    tensors.into_iter().collect()
}

fn take(
    tensors: &HashMap<String, Tensor>,
    kind: &str,
    name: &str,
    device: &Device,
) -> Result<Tensor> {
    let name = format!("{kind}.{name}");
    match tensors.get(&name) {
        Some(tensor) => Ok(tensor.to_device(device)?),
        None => Err(Error::invalid("tensor", format!("`{name}`"), "is missing in the checkpoint")),
    }
}

fn check_same(training: &Training, checkpoint: &Checkpoint, pictures: &str) -> Result<()> {
    if checkpoint.recipe != training.recipe {
        let message =
            "holds a checkpoint of another recipe; resume with the parameters of its start";
        return Err(Error::unusable(training.checkpoints(), message));
    }
    if checkpoint.pictures != pictures {
        let message = "are not those of the checkpoint: pictures, captions or the base model have changed; \
                       start a new training";
        return Err(Error::unusable(&training.dataset, message));
    }
    Ok(())
}

/// Says which pictures and captions were encoded by which model.
fn hash_of(pictures: &[EncodedPicture]) -> String {
    let mut hash = Sha256::new();
    for picture in pictures {
        hash.update(picture.key());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A training under way.
struct Trainer<'a> {
    training: &'a Training,
    pipeline: &'a mut FluxPipeline,
    observer: &'a dyn TrainingObserver,
    inputs: Inputs,
    state: State,
    keep: Keep,
    speed: Speed,
}

impl Trainer<'_> {
    fn run(mut self) -> Result<Outcome> {
        let total = self.training.recipe.steps;
        self.observer.training(self.state.curve.steps(), total);
        self.state.adapter.attach();
        while self.state.curve.steps() < total {
            match self.step() {
                Err(error) if error.is_cancelled() => return self.stop(),
                done => done?,
            }
            let step = self.state.curve.steps();
            let due = |every: usize| every > 0 && step.is_multiple_of(every);
            if due(self.training.save_every) || self.observer.wish() == Wish::Save || step == total
            {
                self.save()?;
            }
            if due(self.training.samples.every)
                || (step == total && self.training.samples.every > 0)
            {
                match self.draw_samples() {
                    Err(error) if error.is_cancelled() => return self.stop(),
                    drawn => drawn?,
                }
            }
        }
        self.state.adapter.detach();
        self.finish()
    }

    fn step(&mut self) -> Result<()> {
        self.speed.start();
        let recipe = &self.training.recipe;
        let step = self.state.curve.steps();
        // The order moves on only with a full step: what is stopped within one is done again.
        let mut order = self.state.order.clone();
        let mut gradients = Gradients::zeros(&self.state.adapter)?;
        let mut losses = Vec::new();
        let observer = self.observer;
        for part in 0..recipe.accumulation {
            let (bucket, pictures) = order.next_batch()?;
            let index = (step * recipe.accumulation + part) as u64;
            let batch = self.batch(bucket, &pictures, index)?;
            let (adapter, keep) = (&self.state.adapter, self.keep);
            let learner = Learner { transformer: self.pipeline.transformer()?, adapter, keep };
            let factor = 1.0 / recipe.accumulation as f64;
            let proceed = || observer.wish() != Wish::Stop;
            let each = learner.learn(&batch, factor, &mut gradients, &proceed)?;
            self.check_finite(step, &pictures, &each)?;
            losses.extend(each);
        }
        let loss = losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64;
        let grad_norm = gradients.clip(recipe.max_grad_norm)?;
        if !grad_norm.is_finite() {
            let samples = "gradients that are not numbers".to_owned();
            return Err(Error::NotFinite { step: step + 1, loss, samples });
        }
        let learning_rate = recipe.schedule.at(step, recipe.steps);
        let parameters = self.state.adapter.parameters();
        self.state.optimizer.step(parameters, &gradients, learning_rate)?;
        if let Some(average) = &mut self.state.average {
            average.update(parameters, step)?;
        }
        self.state.order = order;
        self.state.curve.push(loss as f32);
        self.speed.stop();
        self.report(loss, learning_rate, grad_norm);
        Ok(())
    }

    fn report(&self, loss: f64, learning_rate: f64, grad_norm: f64) {
        let (step, total_steps) = (self.state.curve.steps(), self.training.recipe.steps);
        let steps_per_second = self.speed.steps_per_second();
        self.observer.step(&StepReport {
            step,
            total_steps,
            loss,
            smoothed_loss: self.state.curve.smoothed(),
            learning_rate,
            grad_norm,
            steps_per_second,
            eta_seconds: (total_steps - step) as f64 / steps_per_second,
            epoch: self.state.order.epoch(),
        });
    }

    /// The batch `index` of the training, of `pictures`.
    fn batch(&self, bucket: Bucket, pictures: &[usize], index: u64) -> Result<Batch> {
        let (recipe, device) = (&self.training.recipe, &self.inputs.device);
        let seed = recipe.seed()?;
        let mut dropout = randomness::stream(seed, Purpose::CaptionDropout, index)?;
        let (mut latents, mut txt, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
        for picture in pictures.iter().map(|&i| &self.inputs.pictures[i]) {
            latents.push(picture.latents(device)?);
            let told = if randomness::uniform(&mut dropout) < recipe.caption_dropout {
                read_conditioning(&self.inputs.empty_caption, device)?
            } else {
                picture.conditioning(device)?
            };
            txt.push(told.txt);
            pooled.push(told.pooled);
        }
        let latents = Tensor::cat(&latents, 0)?; // (b, l, c)
        let noise = randomness::stream(seed, Purpose::Noise, index)?.randn(latents.elem_count());
        let noise = Tensor::from_vec(noise, latents.shape(), device)?;
        let mut times = randomness::stream(seed, Purpose::Timesteps, index)?;
        let tokens = latents.dim(1)?;
        let sigmas = sample_sigmas(&mut times, pictures.len(), &self.inputs.schedule, tokens);
        let conditioning = masuka_diffusion::conditioning::Conditioning {
            txt: Tensor::cat(&txt, 0)?,
            pooled: Tensor::cat(&pooled, 0)?,
        };
        let multiple = self.pipeline.layout().size_multiple();
        let grid = (bucket.height / multiple, bucket.width / multiple);
        Ok(Batch { latents, noise, sigmas, conditioning, grid })
    }

    fn check_finite(&self, step: usize, pictures: &[usize], losses: &[f32]) -> Result<()> {
        let bad: Vec<_> = pictures.iter().zip(losses).filter(|(_, l)| !l.is_finite()).collect();
        let Some((_, loss)) = bad.first() else { return Ok(()) };
        let name = |picture: usize| format!("`{}`", self.inputs.pictures[picture].name);
        let samples = bad.iter().map(|(i, _)| name(**i)).collect::<Vec<_>>().join(", ");
        Err(Error::NotFinite { step: step + 1, loss: f64::from(**loss), samples })
    }

    /// Writes a checkpoint and the loss curve.
    fn save(&self) -> Result<PathBuf> {
        let step = self.state.curve.steps();
        let checkpoint = self.state.checkpoint(&self.training.recipe);
        let path = checkpoint.write(&self.training.checkpoints())?;
        let curve = self.training.run_folder.join("loss.csv");
        write_atomically(&curve, self.state.curve.to_csv().as_bytes())?;
        self.observer.checkpoint(&path, step);
        Ok(path)
    }

    fn stop(&self) -> Result<Outcome> {
        let step = self.state.curve.steps();
        let checkpoint = (step > 0).then(|| self.save()).transpose()?;
        self.state.adapter.detach();
        Ok(Outcome::Stopped { step, checkpoint })
    }

    fn draw_samples(&mut self) -> Result<()> {
        let (step, training) = (self.state.curve.steps(), self.training);
        let dtype = candle_core::DType::F32;
        self.state.adapter.attach_values(&self.state.values(), dtype)?;
        let folder = training.run_folder.join("samples");
        let drawn = training.samples.draw(step, &folder, self.pipeline, self.observer);
        self.pipeline.release_encoders();
        self.state.adapter.attach();
        drawn
    }

    fn finish(self) -> Result<Outcome> {
        let training = self.training;
        let loss = self.state.curve.smoothed();
        let provenance = Provenance {
            base_model: training.base_model.clone(),
            dataset: crate::dataset::file_name(Path::new(&training.dataset)),
            pictures: self.inputs.pictures.len() - training.recipe.prior_pictures,
            loss,
            software: training.software.clone(),
        };
        let (names, values) = (self.state.adapter.names(), self.state.values());
        finished::write(&training.output, &names, &values, &training.recipe, &provenance)?;
        Ok(Outcome::Finished { loss })
    }
}
