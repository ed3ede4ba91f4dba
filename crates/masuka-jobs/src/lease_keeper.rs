//! Signs of life from a thread of its own, with its own connection, which an engine that uses every core cannot
//! starve. What the engine has to tell meanwhile (stages, steps) is written down here, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use masuka_storage::bus::{Bus, Signal};
use masuka_storage::queue::{Lease, LeaseState, Queue};
use masuka_storage::{Storage, StorageConfig};
use serde_json::Value as Json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::control::Control;

/// How often progress is written down and a cancellation is seen where no signal tells of it.
const TICK: Duration = Duration::from_secs(1);
/// How often life is shown when there is nothing else to say.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Without an answer of the database for this long, the job counts as another's. Shorter than the lease.
const GIVE_UP_AFTER: Duration = Duration::from_secs(25);

/// What the worker and its engine tell the keeper.
enum Message {
    Begin(Lease, Arc<Control>),
    Stage(Lease, &'static str),
    Progress(Lease, Json),
    Settle(Lease, oneshot::Sender<()>),
    End(Lease),
    State(Json),
}

/// The other end of the thread.
#[derive(Debug, Clone)]
pub(crate) struct LeaseKeeper {
    sender: mpsc::UnboundedSender<Message>,
}

impl LeaseKeeper {
    /// Starts the thread, which ends with the last of its handles.
    pub(crate) fn start(
        config: &StorageConfig,
        bus: &Bus,
        worker_id: &str,
    ) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (config, bus, worker_id) = (config.clone(), bus.clone(), worker_id.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(async {
                match Storage::open(&config).await {
                    Ok(storage) => {
                        let signals = bus.subscribe();
                        let keeper = Keeper {
                            storage,
                            bus,
                            worker_id,
                            state: Json::Null,
                            held: Vec::new(),
                            touched: Instant::now(),
                        };
                        keeper.run(receiver, signals).await;
                    }
                    Err(error) => {
                        tracing::error!("the lease keeper cannot open the database: {error}");
                    }
                }
            });
        };
        std::thread::Builder::new().name("leases".into()).spawn(work).context("lease keeper")?;
        Ok(Self { sender })
    }

    pub(crate) fn begin(&self, lease: &Lease, control: &Arc<Control>) {
        self.send(Message::Begin(lease.clone(), control.clone()));
    }

    pub(crate) fn stage(&self, lease: &Lease, name: &'static str) {
        tracing::info!(job = lease.job_id, epoch = lease.epoch, stage = name, "job goes on");
        self.send(Message::Stage(lease.clone(), name));
    }

    pub(crate) fn progress(&self, lease: &Lease, progress: Json) {
        self.send(Message::Progress(lease.clone(), progress));
    }

    /// Returns once the last progress that was told is written down, or cannot be.
    pub(crate) async fn settle(&self, lease: &Lease) {
        let (done, settled) = oneshot::channel();
        self.send(Message::Settle(lease.clone(), done));
        // An error says that the thread is gone, and with it the progress.
        settled.await.ok();
    }

    pub(crate) fn end(&self, lease: &Lease) {
        self.send(Message::End(lease.clone()));
    }

    /// What this worker says about itself.
    pub(crate) fn state(&self, state: Json) {
        self.send(Message::State(state));
    }

    /// If the thread is gone, leases are not renewed and the job goes to another worker: nothing else to do here.
    fn send(&self, message: Message) {
        drop(self.sender.send(message));
    }
}

struct Held {
    lease: Lease,
    control: Arc<Control>,
    progress: Option<Json>,
    renewed: Instant,
}

impl Held {
    /// A sign of life, and what the user asks meanwhile.
    async fn show_life(&mut self, queue: &Queue) {
        let progress = self.progress.take();
        let renews = progress.is_some() || self.renewed.elapsed() >= RENEW_EVERY;
        let answer = match renews {
            true => queue.renew(&self.lease, progress.as_ref()).await,
            false => queue.look(&self.lease).await,
        };
        if renews && answer.is_ok() {
            self.renewed = Instant::now();
        }
        match answer {
            Ok(LeaseState::Held) => {}
            Ok(LeaseState::CancelRequested) => self.control.cancel(),
            Ok(LeaseState::PauseRequested) => self.control.pause(),
            Ok(LeaseState::SaveRequested) => self.control.save(),
            Ok(LeaseState::Lost) => self.control.lose(),
            Err(error) => {
                tracing::warn!(job = self.lease.job_id, "no sign of life: {error}");
                if self.renewed.elapsed() >= GIVE_UP_AFTER {
                    self.control.lose();
                }
            }
        }
    }
}

struct Keeper {
    storage: Storage,
    bus: Bus,
    worker_id: String,
    state: Json,
    /// A training that yields, and the picture that it yields to.
    held: Vec<Held>,
    touched: Instant,
}

impl Keeper {
    async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        mut signals: broadcast::Receiver<Signal>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.hear(message).await,
                    None => return,
                },
                signal = signals.recv() => match signal {
                    Ok(Signal::CancelRequested { job_id }) => self.cancel(&job_id),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => self.tick().await,
            }
        }
    }

    async fn hear(&mut self, message: Message) {
        match message {
            Message::Begin(lease, control) => {
                self.held.push(Held { lease, control, progress: None, renewed: Instant::now() });
            }
            Message::Progress(lease, progress) => {
                if let Some(held) = self.held.iter_mut().find(|held| held.lease == lease) {
                    held.progress = Some(progress);
                }
            }
            Message::Stage(lease, name) => self.tell_stage(&lease, name).await,
            Message::Settle(lease, done) => {
                if let Some(held) = self.held.iter_mut().find(|held| held.lease == lease) {
                    held.show_life(&self.storage.queue()).await;
                }
                drop(done);
            }
            Message::End(lease) => self.held.retain(|held| held.lease != lease),
            Message::State(state) => {
                self.state = state;
                self.touch().await;
            }
        }
    }

    fn cancel(&self, job_id: &str) {
        for held in self.held.iter().filter(|held| held.lease.job_id == job_id) {
            held.control.cancel();
        }
    }

    async fn tell_stage(&self, lease: &Lease, name: &'static str) {
        match self.storage.queue().tell_stage(lease, name).await {
            Ok(()) => self.bus.publish(&Signal::Events),
            Err(error) => {
                tracing::warn!(job = lease.job_id, "stage not written down: {error}");
            }
        }
    }

    async fn tick(&mut self) {
        if self.touched.elapsed() >= RENEW_EVERY {
            self.touch().await;
        }
        let queue = self.storage.queue();
        for held in &mut self.held {
            held.show_life(&queue).await;
        }
    }

    async fn touch(&mut self) {
        self.touched = Instant::now();
        if let Err(error) = self.storage.processes().touch(&self.worker_id, &self.state).await {
            tracing::warn!("worker {} gave no sign of life: {error}", self.worker_id);
        }
    }
}
