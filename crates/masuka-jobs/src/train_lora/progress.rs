//! What a running training publishes (losses, samples, checkpoints, how far it is), what interrupts it, and where it
//! lets others go first.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use masuka_storage::Storage;
use masuka_storage::blobs::BlobKey;
use masuka_storage::bus::{Bus, Signal};
use masuka_storage::entities::{training_checkpoint, training_loss, training_sample};
use masuka_storage::queue::{GENERATION, Lease};
use masuka_training::observer::{Preparation, Sample, StepReport, TrainingObserver, Wish};
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use crate::control::Control;
use crate::lease_keeper::LeaseKeeper;

/// How often losses are written down.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Between two steps: others may go first until it is dropped.
pub(crate) struct Turn {
    _done: Sender<()>,
}

/// Watches one training.
pub(crate) struct TrainingWatch {
    pub(crate) storage: Storage,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) control: Arc<Control>,
    pub(crate) keeper: LeaseKeeper,
    pub(crate) bus: Bus,
    pub(crate) lease: Lease,
    /// Where turns are given, if this training yields to pictures.
    pub(crate) turns: Option<Mutex<Sender<Turn>>>,
    pub(crate) losses: Mutex<Losses>,
}

/// Losses that are not written down yet.
pub(crate) struct Losses {
    rows: Vec<training_loss::Model>,
    flushed: Instant,
}

impl Default for Losses {
    fn default() -> Self {
        Self { rows: Vec::new(), flushed: Instant::now() }
    }
}

impl TrainingWatch {
    pub(crate) fn stage(&self, name: &'static str) {
        self.keeper.stage(&self.lease, name);
    }

    /// Writes the losses down that were not yet.
    pub(crate) fn flush(&self) {
        let mut losses = self.losses();
        losses.flushed = Instant::now();
        if losses.rows.is_empty() {
            return;
        }
        let trainings = self.storage.trainings();
        match self.runtime.block_on(trainings.add_losses(&self.lease, &losses.rows)) {
            Ok(_) => losses.rows.clear(),
            Err(error) => self.complain("losses", &error),
        }
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It will be written down with the next, or is lost with this process; the training goes on.
    fn complain(&self, what: &str, error: &dyn std::fmt::Display) {
        tracing::warn!(job = self.lease.job_id, "{what} not written down: {error}");
    }

    fn tell(&self, progress: Json) {
        self.keeper.progress(&self.lease, progress.clone());
        let Lease { job_id, epoch, .. } = self.lease.clone();
        self.bus.publish(&Signal::Step { job_id, epoch, progress });
    }

    /// Lets pictures that wait go first.
    fn yield_turn(&self) {
        let Some(turns) = &self.turns else { return };
        match self.runtime.block_on(self.storage.queue().has_waiting(GENERATION)) {
            Ok(true) => {}
            _ => return,
        }
        let (done, over) = channel::<()>();
        let turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.send(Turn { _done: done }).is_ok() {
            // Returns when the turn is dropped.
            over.recv().ok();
        }
    }

    async fn publish_checkpoint(&self, path: &Path, step: usize) -> masuka_storage::Result<()> {
        let Lease { job_id, epoch, .. } = &self.lease;
        let name = format!("training/{job_id}/{epoch}/step-{step:08}.safetensors");
        let key = BlobKey::parse(&name)?;
        let blobs = self.storage.blobs();
        blobs.put_file(&key, path).await?;
        let row = training_checkpoint::Model {
            session_id: job_id.clone(),
            step: step as i64,
            blob_key: name,
            bytes: blobs.size(&key).await?.unwrap_or(0) as i64,
            created_at_ms: 0,
        };
        match self.storage.trainings().add_checkpoint(&self.lease, &row).await? {
            Some(old) => {
                for key in old {
                    blobs.delete(&BlobKey::parse(&key)?).await?;
                }
                self.bus.publish(&Signal::Events);
                Ok(())
            }
            None => blobs.delete(&key).await,
        }
    }

    async fn publish_sample(&self, sample: &Sample<'_>) -> masuka_storage::Result<()> {
        let Lease { job_id, epoch, .. } = &self.lease;
        let (step, number) = (sample.step, sample.index + 1);
        let name = format!("training/{job_id}/{epoch}/sample-{step:08}-{number}.png");
        let key = BlobKey::parse(&name)?;
        self.storage.blobs().put_file(&key, sample.path).await?;
        let row = training_sample::Model {
            session_id: job_id.clone(),
            step: step as i64,
            position: sample.index as i64,
            prompt: sample.prompt.to_owned(),
            blob_key: name,
        };
        if !self.storage.trainings().add_sample(&self.lease, &row).await? {
            return self.storage.blobs().delete(&key).await;
        }
        self.bus.publish(&Signal::Events);
        Ok(())
    }
}

impl TrainingObserver for TrainingWatch {
    fn preparing(&self, what: Preparation, done: usize, total: usize) {
        let what = match what {
            Preparation::Priors => "priors",
            Preparation::Encode => "encode",
        };
        self.tell(json!({ "preparing": what, "prepared": done, "to_prepare": total }));
    }

    fn training(&self, steps_done: usize, total_steps: usize) {
        let begin = self.storage.trainings();
        if let Err(error) = self.runtime.block_on(begin.begin_at(&self.lease, steps_done as u64)) {
            self.complain("the beginning", &error);
        }
        self.stage("training");
        let percent = percent(steps_done, total_steps);
        self.tell(json!({ "step": steps_done, "total_steps": total_steps, "percent": percent, "training": true }));
    }

    fn step(&self, report: &StepReport) {
        let is_due = {
            let mut losses = self.losses();
            losses.rows.push(training_loss::Model {
                session_id: self.lease.job_id.clone(),
                step: report.step as i64,
                loss: report.loss,
                smoothed_loss: report.smoothed_loss,
                learning_rate: report.learning_rate,
            });
            losses.flushed.elapsed() >= FLUSH_EVERY
        };
        if is_due {
            self.flush();
        }
        self.tell(json!({
            "training": true,
            "step": report.step,
            "total_steps": report.total_steps,
            "percent": percent(report.step, report.total_steps),
            "eta_seconds": report.eta_seconds,
            "current_loss": report.loss,
            "smoothed_loss": report.smoothed_loss,
            "learning_rate": report.learning_rate,
            "steps_per_second": report.steps_per_second,
            "epoch": report.epoch,
        }));
        self.yield_turn();
    }

    fn sample(&self, sample: &Sample<'_>) {
        if let Err(error) = self.runtime.block_on(self.publish_sample(sample)) {
            self.complain("a sample", &error);
        }
    }

    fn checkpoint(&self, path: &Path, step: usize) {
        // Losses first: a curve may reach beyond the checkpoint, never end before it.
        self.flush();
        if let Err(error) = self.runtime.block_on(self.publish_checkpoint(path, step)) {
            self.complain("a checkpoint", &error);
        }
        self.control.saved();
    }

    fn wish(&self) -> Wish {
        match self.control.interruption() {
            Some(_) => Wish::Stop,
            None if self.control.wants_save() => Wish::Save,
            None => Wish::Continue,
        }
    }
}

fn percent(step: usize, total: usize) -> f64 {
    (1000.0 * step as f64 / total.max(1) as f64).round() / 10.0
}
