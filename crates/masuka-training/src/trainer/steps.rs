//! Steps, checkpoints and samples, until the adapter is finished or somebody stops it.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::samplers::ScheduleConfig;

use super::state::State;
use super::{Outcome, Training};
use crate::dataset::Bucket;
use crate::encoded::{EncodedPicture, read_conditioning};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::finished::{self, Provenance};
use crate::gradients::{Batch, Gradients, Keep, Learner};
use crate::observer::{StepReport, TrainingObserver, Wish};
use crate::pieces;
use crate::prior;
use crate::randomness::{self, Purpose};
use crate::speed::Speed;
use crate::timesteps::{hide_some, sample_sigmas};

/// What no step changes.
pub(super) struct Inputs {
    /// The dataset's own, then those that the base model drew.
    pub(super) pictures: Vec<EncodedPicture>,
    /// Pictures of the dataset.
    pub(super) own: usize,
    pub(super) empty_caption: PathBuf,
    pub(super) schedule: ScheduleConfig,
    pub(super) device: Device,
}

/// A training under way.
pub(super) struct Trainer<'a> {
    pub(super) training: &'a Training,
    pub(super) pipeline: &'a mut FluxPipeline,
    pub(super) observer: &'a dyn TrainingObserver,
    pub(super) inputs: Inputs,
    pub(super) state: State,
    pub(super) keep: Keep,
    pub(super) speed: Speed,
}

impl Trainer<'_> {
    pub(super) fn run(mut self) -> Result<Outcome> {
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
            let mut batch = self.batch(bucket, &pictures, index)?;
            let (adapter, keep) = (&self.state.adapter, self.keep);
            let (transformer, guidance) = (self.pipeline.transformer()?, recipe.guidance as f32);
            let learner = Learner { transformer, adapter, keep, guidance, by_graph: false };
            let is_prior = |picture: &usize| *picture >= self.inputs.own;
            let of_prior: Vec<_> = pictures.iter().map(is_prior).collect();
            batch.target = prior::target(&learner, &batch, &of_prior)?;
            let factor = 1.0 / recipe.accumulation as f64;
            let proceed = || observer.wish() != Wish::Stop;
            let each = pieces::learn(&learner, &batch, factor, &mut gradients, &proceed)?;
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
        let mut sigmas = sample_sigmas(&mut times, pictures.len(), &self.inputs.schedule, tokens);
        hide_some(&mut times, &mut sigmas, recipe.share_of_pure_noise());
        let conditioning = masuka_diffusion::conditioning::Conditioning {
            txt: Tensor::cat(&txt, 0)?,
            pooled: Tensor::cat(&pooled, 0)?,
        };
        let multiple = self.pipeline.layout().size_multiple();
        let grid = (bucket.height / multiple, bucket.width / multiple);
        Ok(Batch { latents, noise, target: None, sigmas, conditioning, grid })
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
        let dtype = training.recipe.dtype.dtype();
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
            dataset: training.dataset_name.clone(),
            pictures: self.inputs.own,
            loss,
            software: training.software.clone(),
        };
        let (names, values) = (self.state.adapter.names(), self.state.values());
        finished::write(&training.output, &names, &values, &training.recipe, &provenance)?;
        Ok(Outcome::Finished { loss })
    }
}
