//! One job, from its claim to its end; a picture may come between two steps of a training.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use masuka_storage::bus::Signal;
use masuka_storage::queue::{ClaimedJob, GENERATION};

use super::Worker;
use super::ending::Made;
use crate::control::Control;
use crate::failure::Ending;
use crate::generate_image::{self, GenerateImage, Pictures};
use crate::train_lora::{self, Losses, TrainLora, Trained, TrainingWatch, Turn};
use crate::watch::Watch;

impl Worker {
    /// Runs one job to its end, whatever that is.
    pub(super) fn work(&mut self, claimed: &ClaimedJob) {
        let (lease, start) = (&claimed.lease, Instant::now());
        tracing::info!(
            job = lease.job_id,
            epoch = lease.epoch,
            kind = claimed.job.kind,
            "job begins"
        );
        self.bus.publish(&Signal::Events);
        let control = Arc::new(Control::new(self.stop.clone()));
        self.keeper.begin(lease, &control);
        let ending = self.run_job(claimed, &control);
        if let Ok(Made::Pictures(pictures)) = &ending {
            self.done.steps += pictures.steps;
            self.done.step_seconds += pictures.report.timings.get("denoise").unwrap_or(&0.0);
        }
        let outcome = ending.as_ref().map_or_else(Ending::word, |_| "done").to_owned();
        if ending.is_err() {
            // Where it stopped; a job that is done stands at its end anyway.
            self.runtime.block_on(self.keeper.settle(lease));
        }
        self.finish(lease, &control, ending);
        self.keeper.end(lease);
        self.bus.publish(&Signal::Events);
        let seconds = start.elapsed().as_millis() as f64 / 1000.0;
        self.done.jobs += 1;
        self.done.job_seconds += seconds;
        self.tell_state();
        tracing::info!(job = lease.job_id, outcome, seconds, "job is over");
    }

    fn run_job(&mut self, claimed: &ClaimedJob, control: &Arc<Control>) -> Result<Made, Ending> {
        match claimed.job.kind.as_str() {
            generate_image::KIND => self.draw(claimed, control).map(Made::Pictures),
            train_lora::KIND => {
                self.train(claimed, control).map(|trained| Made::Adapter(Box::new(trained)))
            }
            kind => {
                let message =
                    format!("jobs of kind `{kind}` are unknown to this version of masuka");
                Err(Ending::failed("unknown_kind", message))
            }
        }
    }

    /// A panic of the engine fails the job, not the worker; what was loaded is not trusted any more.
    fn draw(&mut self, claimed: &ClaimedJob, control: &Arc<Control>) -> Result<Pictures, Ending> {
        let watch = Watch {
            control: control.clone(),
            keeper: self.keeper.clone(),
            bus: self.bus.clone(),
            lease: claimed.lease.clone(),
            first_step: Mutex::new(None),
            previews: Mutex::new(None),
        };
        let job = GenerateImage {
            storage: &self.storage,
            runtime: &self.runtime,
            models: &mut self.models,
            watch: &watch,
        };
        catch_unwind(AssertUnwindSafe(|| job.run())).unwrap_or_else(|panic| {
            self.models.clear();
            Err(panicked(panic.as_ref()))
        })
    }

    /// Trains on a thread of its own; this one draws pictures when the training lets them go first.
    fn train(&mut self, claimed: &ClaimedJob, control: &Arc<Control>) -> Result<Trained, Ending> {
        let options = self.models.options();
        let job = TrainLora::open(&self.storage, &self.runtime, options, &claimed.lease.job_id)?;
        let (sender, turns) = channel();
        let yields = self.training_yields && self.queues.iter().any(|queue| queue == GENERATION);
        let watch = TrainingWatch {
            storage: self.storage.clone(),
            runtime: self.runtime.clone(),
            control: control.clone(),
            keeper: self.keeper.clone(),
            bus: self.bus.clone(),
            lease: claimed.lease.clone(),
            turns: yields.then(|| Mutex::new(sender)),
            losses: Mutex::new(Losses::default()),
        };
        let thread = std::thread::Builder::new().name("training".into());
        let training = thread.spawn(move || job.run(&watch)).map_err(anyhow::Error::from)?;
        // Until the training's end, which drops the other end.
        for turn in turns {
            self.draw_waiting(turn);
        }
        self.spared.clear();
        let ending = training.join().unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        (self.models.options().give_back)();
        ending
    }

    /// Draws one picture that waits; those that did not fit into memory beside the training are left for later.
    fn draw_waiting(&mut self, turn: Turn) {
        if !self.stop.is_asked() {
            self.is_between_steps = true;
            let runtime = self.runtime.clone();
            match runtime.block_on(self.claim(&[GENERATION.to_owned()])) {
                Ok(Some(claimed)) => self.work(&claimed),
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot ask for jobs: {error}"),
            }
            self.is_between_steps = false;
        }
        drop(turn);
    }
}

/// What a panic says, as a failure of the job.
fn panicked(panic: &(dyn Any + Send)) -> Ending {
    let message = panic.downcast_ref::<String>().cloned();
    let message = message.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    Ending::failed("engine_failed", message.unwrap_or_else(|| "the engine panicked".into()))
}
