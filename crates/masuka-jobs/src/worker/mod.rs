//! Claim, run, finish, again.

mod capable; // whose jobs are left to others
mod job; // one job, from its claim on
mod ending; // the final word about it

use std::sync::Arc;
use std::time::{Duration, Instant};

use masuka_diffusion::observer::Unobserved;
use masuka_storage::base_models;
use masuka_storage::bus::{Bus, Signal};
use masuka_storage::entities::{base_model, lora_model};
use masuka_storage::processes::{NewProcess, ProcessLock};
use masuka_storage::queue::{ClaimRequest, ClaimedJob};
use masuka_storage::{Storage, StorageConfig};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::control::Stop;
use crate::lease_keeper::LeaseKeeper;
use crate::model_cache::{EngineOptions, ModelCache};

/// How long an idle worker waits for a signal before it asks the database.
const IDLE: Duration = Duration::from_secs(1);
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
    /// How long base models stay in memory without a job; without it for as long as the worker runs.
    pub unload_after: Option<Duration>,
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
    unload_after: Option<Duration>,
    /// When the last job ended.
    idle_since: Instant,
    training_yields: bool,
    /// A picture runs between two steps of a training.
    is_between_steps: bool,
    /// Pictures that did not fit beside it and wait for its end.
    spared: Vec<String>,
    /// Base models that are on this machine.
    here: Vec<String>,
    /// Those that only others have.
    elsewhere: Vec<String>,
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
        let bus = Bus::join(config, &storage.studio(), &options.id);
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
            unload_after: options.unload_after,
            idle_since: Instant::now(),
            training_yields: options.training_yields,
            is_between_steps: false,
            spared: Vec::new(),
            here: Vec::new(),
            elsewhere: Vec::new(),
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
        let (mut signals, runtime) = (self.bus.subscribe(), self.runtime.clone());
        let queues = self.queues.clone();
        while !self.stop.is_asked() {
            match runtime.block_on(self.claim(&queues)) {
                Ok(Some(claimed)) => {
                    self.work(&claimed);
                    self.idle_since = Instant::now();
                    continue;
                }
                Ok(None) => self.let_go_of_idle(),
                Err(error) => tracing::warn!("cannot ask for jobs: {error}"),
            }
            let woken = self.runtime.block_on(async {
                tokio::select! {
                    woken = wait(&mut signals) => woken,
                    () = self.stop.asked() => Woken::Looks,
                    () = tokio::time::sleep(IDLE) => Woken::Looks,
                }
            });
            if woken == Woken::ModelsChanged {
                self.let_go_of_removed();
            }
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
        let loaded = loaded.and_then(|model| self.models.get(&model, None, &Unobserved).map(drop));
        match loaded {
            Ok(()) => {
                tracing::info!(model = id, seconds = start.elapsed().as_secs_f64(), "loaded");
                self.idle_since = Instant::now();
                self.tell_state();
            }
            Err(error) => tracing::warn!(model = id, "cannot be loaded: {error:#}"),
        }
    }

    /// A base model or LoRA that is off the list holds neither memory nor, by its open files, the disk.
    fn let_go_of_removed(&mut self) {
        let known = self.runtime.block_on(self.known_models());
        match known {
            Ok((installed, imported)) => {
                if self.models.keep_only(&installed, &imported) {
                    self.tell_state();
                }
            }
            Err(error) => tracing::warn!("cannot ask for models: {error}"),
        }
    }

    /// Models that no job asked for in a while give their memory back.
    fn let_go_of_idle(&mut self) {
        let is_time = self.unload_after.is_some_and(|after| self.idle_since.elapsed() >= after);
        if is_time && !self.models.is_empty() {
            tracing::info!(models = ?self.models.ids(), "unloaded because no job wants them");
            self.models.clear();
            self.tell_state();
        }
    }

    async fn known_models(
        &self,
    ) -> masuka_storage::Result<(Vec<base_model::Model>, Vec<lora_model::Model>)> {
        let installed = base_models::list(self.storage.database()).await?;
        Ok((installed, self.storage.lora_models().list(None, None).await?))
    }

    /// The next job; jobs of dead workers are looked after first.
    async fn claim(&mut self, queues: &[String]) -> masuka_storage::Result<Option<ClaimedJob>> {
        self.look_around().await?;
        let queue = self.storage.queue();
        for reaped in queue.reap(&self.storage.processes()).await? {
            tracing::warn!(job = reaped.job_id, status = %reaped.status, "taken from a worker that is gone");
            self.bus.publish(&Signal::Events);
        }
        let request = ClaimRequest {
            worker_id: self.id.clone(),
            queues: queues.to_vec(),
            loaded_model: self.models.last_used().map(str::to_owned),
            lacks: self.elsewhere.clone(),
            except: self.spared.clone(),
        };
        queue.claim(&request).await
    }

    fn tell_state(&self) {
        let options = self.models.options();
        self.keeper.state(json!({
            "device": options.device.name(),
            "dtype": options.precision.name(),
            "offload": options.offload.name(),
            "queues": self.queues,
            capable::STATE: self.here,
            "loaded_models": self.models.ids(),
            "model_loads": self.models.loads(),
            "lora_loads": self.models.lora_loads(),
            "jobs_done": self.done.jobs,
            "job_seconds": self.done.job_seconds,
            "steps": self.done.steps,
            "step_seconds": self.done.step_seconds,
        }));
    }
}

/// Why an idle worker does not wait any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// A job may be waiting.
    Looks,
    /// A base model or LoRA came or went.
    ModelsChanged,
}

/// Returns once there is something to look after.
async fn wait(signals: &mut tokio::sync::broadcast::Receiver<Signal>) -> Woken {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match signals.recv().await {
            Ok(Signal::JobQueued) => return Woken::Looks,
            Ok(Signal::Changed { what, .. }) if what == "models" => return Woken::ModelsChanged,
            // What was lost may have been either; what removed models leave is looked after by the next signal.
            Err(RecvError::Lagged(_)) => return Woken::Looks,
            Ok(_) => {}
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
