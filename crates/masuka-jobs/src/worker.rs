//! Claim, run, finish, again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use masuka_diffusion::observer::Unobserved;
use masuka_storage::base_models;
use masuka_storage::blobs::BlobKey;
use masuka_storage::bus::{Bus, Signal};
use masuka_storage::processes::{NewProcess, ProcessLock};
use masuka_storage::queue::{ClaimRequest, ClaimedJob, Failure, Finished, GENERATION, Lease};
use masuka_storage::{Storage, StorageConfig};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::control::{Control, Interruption, Stop};
use crate::failure::Ending;
use crate::generate_image::{self, GenerateImage, Pictures};
use crate::lease_keeper::LeaseKeeper;
use crate::model_cache::{EngineOptions, ModelCache};
use crate::train_lora::{self, Losses, TrainLora, Trained, TrainingWatch, Turn};
use crate::watch::Watch;

/// How long an idle worker waits for a signal before it asks the database.
const IDLE: Duration = Duration::from_secs(1);
/// How often a word that the database did not take is said again, and after which pause.
const RETRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who this worker is.
#[derive(Debug)]
pub struct WorkerOptions {
    /// A UUID.
    pub id: String,
    /// The server that started it and sees it die.
    pub supervisor_id: Option<String>,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The base model to load before the first job asks for one.
    pub preload: Option<String>,
    /// Whether a training lets pictures that wait go first, between two steps.
    pub training_yields: bool,
    /// Where and how it computes.
    pub engine: EngineOptions,
}

/// What a worker has done since it started.
#[derive(Debug, Default)]
struct Done {
    jobs: u64,
    job_seconds: f64,
    steps: u64,
    step_seconds: f64,
}

/// What a job made, to be published.
enum Made {
    Pictures(Pictures),
    Adapter(Box<Trained>),
}

/// A worker: one job at a time; a picture may come between two steps of a training.
pub struct Worker {
    id: String,
    queues: Vec<String>,
    preload: Option<String>,
    runtime: Arc<Runtime>,
    storage: Storage,
    bus: Bus,
    keeper: LeaseKeeper,
    models: ModelCache,
    stop: Stop,
    training_yields: bool,
    /// A picture runs between two steps of a training.
    is_between_steps: bool,
    done: Done,
    _lock: ProcessLock,
}

impl Worker {
    /// Opens the storage and enters this process.
    ///
    /// # Errors
    /// When the storage cannot be opened.
    pub fn start(
        options: WorkerOptions,
        config: &StorageConfig,
        stop: Stop,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let runtime = Arc::new(runtime);
        let storage = runtime.block_on(Storage::open(config))?;
        let bus = Bus::join(&config.data_dir, &options.id);
        let new = NewProcess {
            id: options.id.clone(),
            role: "worker",
            supervisor_id: options.supervisor_id,
            state: json!({}),
        };
        let lock = runtime.block_on(storage.processes().enter(&new))?;
        let keeper = LeaseKeeper::start(config, &bus, &options.id)?;
        let worker = Self {
            id: options.id,
            queues: options.queues,
            preload: options.preload,
            models: ModelCache::new(options.engine),
            runtime,
            storage,
            bus,
            keeper,
            stop,
            training_yields: options.training_yields,
            is_between_steps: false,
            done: Done::default(),
            _lock: lock,
        };
        worker.tell_state();
        Ok(worker)
    }

    /// Works until it is asked to stop.
    ///
    /// # Errors
    /// When the process cannot be taken off the list at the end.
    pub fn run(mut self) -> anyhow::Result<()> {
        tracing::info!(worker = self.id, engine = ?self.models.options(), "worker is ready");
        self.preload();
        let mut signals = self.bus.subscribe();
        while !self.stop.is_asked() {
            match self.runtime.block_on(self.claim(&self.queues)) {
                Ok(Some(claimed)) => {
                    self.work(&claimed);
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot ask for jobs: {error}"),
            }
            self.runtime.block_on(async {
                tokio::select! {
                    () = wait_for_job(&mut signals) => {}
                    () = self.stop.asked() => {}
                    () = tokio::time::sleep(IDLE) => {}
                }
            });
        }
        self.runtime.block_on(self.storage.processes().leave(&self.id))?;
        tracing::info!(worker = self.id, "worker has stopped");
        Ok(())
    }

    /// Loads the base model that the first job will probably want. If that fails, the job will say so.
    fn preload(&mut self) {
        let Some(id) = self.preload.take() else { return };
        let (start, database) = (Instant::now(), self.storage.database());
        let found = self.runtime.block_on(base_models::find(database, &id));
        let loaded = found.map_err(anyhow::Error::from);
        let loaded = loaded.and_then(|model| self.models.get(&model, &Unobserved).map(drop));
        match loaded {
            Ok(()) => {
                tracing::info!(model = id, seconds = start.elapsed().as_secs_f64(), "loaded");
                self.tell_state();
            }
            Err(error) => tracing::warn!(model = id, "cannot be loaded: {error:#}"),
        }
    }

    /// The next job; jobs of dead workers are looked after first.
    async fn claim(&self, queues: &[String]) -> masuka_storage::Result<Option<ClaimedJob>> {
        let queue = self.storage.queue();
        for reaped in queue.reap(&self.storage.processes()).await? {
            tracing::warn!(job = reaped.job_id, status = %reaped.status, "taken from a worker that is gone");
            self.bus.publish(&Signal::Events);
        }
        let request = ClaimRequest {
            worker_id: self.id.clone(),
            queues: queues.to_vec(),
            loaded_model: self.models.last_used().map(str::to_owned),
        };
        queue.claim(&request).await
    }

    /// Runs one job to its end, whatever that is.
    fn work(&mut self, claimed: &ClaimedJob) {
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
        if ending.is_err() {
            // Where it stopped; a job that is done stands at its end anyway.
            self.runtime.block_on(self.keeper.settle(lease));
        }
        self.finish(lease, &control, ending);
        self.keeper.end(lease);
        self.bus.publish(&Signal::Events);
        let seconds = start.elapsed().as_secs_f64();
        self.done.jobs += 1;
        self.done.job_seconds += seconds;
        self.tell_state();
        tracing::info!(job = lease.job_id, seconds, "job is over");
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
        training.join().unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
    }

    /// Draws one picture that waits, unless one did not fit into memory beside the training before.
    fn draw_waiting(&mut self, turn: Turn) {
        if self.training_yields && !self.stop.is_asked() {
            self.is_between_steps = true;
            match self.runtime.block_on(self.claim(&[GENERATION.to_owned()])) {
                Ok(Some(claimed)) => self.work(&claimed),
                Ok(None) => {}
                Err(error) => tracing::warn!("cannot ask for jobs: {error}"),
            }
            self.is_between_steps = false;
        }
        drop(turn);
    }

    /// Says the final word, repeatedly if the database does not answer.
    fn finish(&mut self, lease: &Lease, control: &Control, ending: Result<Made, Ending>) {
        let ending = self.spare(ending);
        for attempt in 1..=RETRIES {
            let said = self.runtime.block_on(self.say(lease, control, &ending));
            match said {
                Ok(Finished::Accepted) if ending.is_ok() => return,
                Ok(_) => return self.runtime.block_on(self.remove_unpublished(lease, &ending)),
                Err(error) if attempt < RETRIES => {
                    tracing::warn!(job = lease.job_id, "the end is not written down yet: {error}");
                    std::thread::sleep(RETRY_AFTER);
                }
                Err(error) => {
                    // The lease runs out, and another worker does the job again.
                    tracing::error!(job = lease.job_id, "the end cannot be written down: {error}");
                }
            }
        }
    }

    async fn say(
        &self,
        lease: &Lease,
        control: &Control,
        ending: &Result<Made, Ending>,
    ) -> masuka_storage::Result<Finished> {
        let queue = self.storage.queue();
        match ending {
            Ok(Made::Adapter(trained)) => {
                self.storage.trainings().complete(lease, &trained.model).await
            }
            Ok(Made::Pictures(pictures)) => {
                // Before the end is written down: afterwards nobody would come back for them.
                self.remove_older_files(lease).await;
                let report = json!(pictures.report);
                queue.complete_generation(lease, pictures.outputs.clone(), &report).await
            }
            Err(Ending::Failed(failure)) => {
                let Failure { code, message } = failure;
                tracing::warn!(job = lease.job_id, code, "job failed: {message}");
                queue.fail(lease, failure).await
            }
            Err(Ending::Interrupted) => match control.interruption() {
                Some(Interruption::Cancelled) => queue.finish_cancelled(lease).await,
                Some(Interruption::Paused) => {
                    queue.finish_paused(lease).await?;
                    Ok(Finished::Fenced)
                }
                Some(Interruption::Lost) => Ok(Finished::Fenced),
                Some(Interruption::Stopped) | None => {
                    queue.put_back(lease).await?;
                    Ok(Finished::Fenced)
                }
            },
        }
    }

    /// A picture that does not fit beside a training waits for the training's end instead of failing.
    fn spare(&mut self, ending: Result<Made, Ending>) -> Result<Made, Ending> {
        match ending {
            Err(Ending::Failed(failure))
                if self.is_between_steps && failure.code == "out_of_memory" =>
            {
                tracing::warn!("pictures wait for the training's end: {}", failure.message);
                self.training_yields = false;
                Err(Ending::Interrupted)
            }
            ending => ending,
        }
    }

    /// Files that were stored and are not published.
    async fn remove_unpublished(&self, lease: &Lease, ending: &Result<Made, Ending>) {
        self.remove_own_files(lease).await;
        let Ok(Made::Adapter(trained)) = ending else { return };
        let folder = BlobKey::parse(&format!("models/{}", trained.model.id));
        let removed = match folder {
            Ok(folder) => self.storage.blobs().delete_all(&folder).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(job = lease.job_id, "files are left behind: {error}");
        }
    }

    /// Files of this claim that will not be published.
    async fn remove_own_files(&self, lease: &Lease) {
        let folder = format!("generated/{}/{}", lease.job_id, lease.epoch);
        let removed = match BlobKey::parse(&folder) {
            Ok(folder) => self.storage.blobs().delete_all(&folder).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(job = lease.job_id, "files are left behind: {error}");
        }
    }

    /// Files of earlier claims, whose workers died before they could publish or remove them; none can be published
    /// any more.
    async fn remove_older_files(&self, lease: &Lease) {
        for epoch in 1..lease.epoch {
            self.remove_own_files(&Lease { epoch, ..lease.clone() }).await;
        }
    }

    fn tell_state(&self) {
        let options = self.models.options();
        self.keeper.state(json!({
            "device": options.device.name(),
            "dtype": options.precision.name(),
            "offload": options.offload.name(),
            "queues": self.queues,
            "loaded_models": self.models.ids(),
            "model_loads": self.models.loads(),
            "jobs_done": self.done.jobs,
            "job_seconds": self.done.job_seconds,
            "steps": self.done.steps,
            "step_seconds": self.done.step_seconds,
        }));
    }
}

/// What a panic says, as a failure of the job.
fn panicked(panic: &(dyn Any + Send)) -> Ending {
    let message = panic.downcast_ref::<String>().cloned();
    let message = message.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    Ending::failed("engine_failed", message.unwrap_or_else(|| "the engine panicked".into()))
}

/// Returns once a job may be waiting.
async fn wait_for_job(signals: &mut tokio::sync::broadcast::Receiver<Signal>) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match signals.recv().await {
            Ok(Signal::JobQueued) | Err(RecvError::Lagged(_)) => return,
            Ok(_) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
