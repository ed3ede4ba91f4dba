//! Events of the database, read once and handed to any number of listeners; steps come along as they are signalled.

use std::sync::Arc;
use std::time::Duration;

use masuka_storage::bus::Signal;
use masuka_storage::entities::job_event;
use masuka_storage::events;
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;
use crate::streams::Encoded;
use crate::views::generation::ProgressNumbers;
use crate::views::progress::{ProgressMessage, ServerEvent};
use crate::views::training::TrainingProgress;

/// How often the database is asked when no signal comes.
const EVERY: Duration = Duration::from_secs(1);
/// How many messages a slow listener may lag behind.
const BACKLOG: usize = 1024;
const PAGE: u64 = 500;

/// What listeners get.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// Something that is not forgotten.
    Event(Arc<Event>),
    /// A step of a running job.
    Step(Arc<Step>),
    /// Something that is no job is not as it was.
    Changed(Arc<Changed>),
}

/// A row of `job_events`.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) row: job_event::Model,
    /// The row's, parsed.
    pub(crate) payload: Json,
    pub(crate) of_job: Encoded<ProgressMessage>,
    pub(crate) of_all: Encoded<ServerEvent>,
}

/// Something that is no job is not as it was.
#[derive(Debug)]
pub(crate) struct Changed {
    /// Its kind.
    pub(crate) what: String,
    /// How it is, where that is told along.
    pub(crate) details: Json,
    pub(crate) of_all: Encoded<ServerEvent>,
}

/// A step of a running job.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) job_id: String,
    /// How far it is, as its worker says.
    pub(crate) progress: Json,
    /// The same of a picture.
    pub(crate) numbers: ProgressNumbers,
    /// The same of a training.
    pub(crate) training: TrainingProgress,
    pub(crate) of_job: Encoded<ProgressMessage>,
    pub(crate) of_all: Encoded<ServerEvent>,
}

impl Event {
    pub(crate) fn new(row: job_event::Model) -> Self {
        let payload = serde_json::from_str(&row.payload).unwrap_or_default();
        Self { row, payload, of_job: Encoded::default(), of_all: Encoded::default() }
    }
}

impl Changed {
    fn new(what: String, details: Json) -> Self {
        Self { what, details, of_all: Encoded::default() }
    }
}

impl Step {
    fn new(job_id: String, progress: Json) -> Self {
        Self {
            job_id,
            numbers: ProgressNumbers::deserialize(&progress).unwrap_or_default(),
            training: TrainingProgress::deserialize(&progress).unwrap_or_default(),
            progress,
            of_job: Encoded::default(),
            of_all: Encoded::default(),
        }
    }
}

impl Message {
    /// The job it is about.
    pub(crate) fn job_id(&self) -> &str {
        match self {
            Self::Event(event) => &event.row.job_id,
            Self::Step(step) => &step.job_id,
            Self::Changed(_) => "",
        }
    }
}

/// Where listeners join.
#[derive(Debug)]
pub(crate) struct EventPump {
    sender: broadcast::Sender<Message>,
}

impl EventPump {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0 }
    }

    /// Listens from here on. Whoever reads the database afterwards misses nothing, but may see an event twice.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Message> {
        self.sender.subscribe()
    }

    /// Whether somebody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells the listeners of this server alone.
    pub(crate) fn tell(&self, what: &str, details: Json) {
        let changed = Changed::new(what.to_owned(), details);
        drop(self.sender.send(Message::Changed(Arc::new(changed))));
    }
}

/// Runs until the task is aborted.
pub(crate) async fn run(app: App) {
    let mut signals = app.bus.subscribe();
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = loop {
        match events::latest_id(app.storage.database()).await {
            Ok(id) => break id,
            Err(error) => tracing::warn!("cannot read events: {error}"),
        }
        interval.tick().await;
    };
    loop {
        let asks = tokio::select! {
            _ = interval.tick() => true,
            signal = signals.recv() => match signal {
                Ok(Signal::Step { job_id, progress, .. }) => {
                    drop(app.events.sender.send(Message::Step(Arc::new(Step::new(job_id, progress)))));
                    false
                }
                Ok(Signal::Changed { what, details }) => {
                    drop(app.events.sender.send(Message::Changed(Arc::new(Changed::new(what, details)))));
                    false
                }
                Ok(Signal::Events) | Err(RecvError::Lagged(_)) => true,
                Ok(_) => false,
                Err(RecvError::Closed) => return,
            },
        };
        if asks {
            match pass_on(&app, seen).await {
                Ok(newest) => seen = newest,
                Err(error) => tracing::warn!("cannot read events: {error}"),
            }
        }
    }
}

/// Hands on all events after `seen`; the id of the last.
async fn pass_on(app: &App, mut seen: i64) -> masuka_storage::Result<i64> {
    loop {
        let page = events::since(app.storage.database(), seen, None, PAGE).await?;
        let is_last = (page.len() as u64) < PAGE;
        for event in page {
            seen = event.id;
            drop(app.events.sender.send(Message::Event(Arc::new(Event::new(event)))));
        }
        if is_last {
            return Ok(seen);
        }
    }
}
