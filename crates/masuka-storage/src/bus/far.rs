//! Between machines: by NATS where it is configured, else by PostgreSQL's `NOTIFY`, on a thread with connections of its
//! own. Who shares the sender's data folder hears of it by its socket and leaves the notice alone.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::{broadcast, mpsc};

use super::{Signal, nats, postgres, sockets};
use crate::config::StorageConfig;

/// How often the steps of a job are told of.
const STEP_EVERY: Duration = Duration::from_millis(250);
/// What waits for a carrier that does not answer; more is lost.
const BACKLOG: usize = 256;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// This process's end of it.
#[derive(Debug)]
pub(super) struct Far {
    id: String,
    carrier: Carrier,
    sender: mpsc::Sender<String>,
    /// When a job's step was told of last.
    steps: Mutex<HashMap<String, Instant>>,
}

/// What carries notices.
#[derive(Debug, Clone)]
enum Carrier {
    Nats(nats::Line),
    Postgres(postgres::Line),
}

/// What is sent.
#[derive(Serialize, Deserialize)]
struct Notice {
    from: String,
    signal: Signal,
}

impl Carrier {
    /// Nothing where neither NATS nor PostgreSQL is configured: SQLite is of one machine.
    fn of(config: &StorageConfig, studio: &str) -> Option<Self> {
        if let Some(url) = &config.nats_url {
            let (url, subject) = (url.clone(), format!("masuka.{studio}"));
            return Some(Self::Nats(nats::Line { url, subject }));
        }
        let url = config.database_url();
        (!url.expose().starts_with("sqlite:")).then_some(Self::Postgres(postgres::Line { url }))
    }

    fn max_bytes(&self) -> usize {
        match self {
            Self::Nats(_) => nats::MAX_BYTES,
            Self::Postgres(_) => postgres::MAX_BYTES,
        }
    }

    /// Whether there is room for the previews of steps.
    fn carries_previews(&self) -> bool {
        matches!(self, Self::Nats(_))
    }

    /// Until the other side is dropped.
    async fn run(self, ear: Ear, mut receiver: mpsc::Receiver<String>) {
        loop {
            let outcome = match &self {
                Self::Nats(line) => line.pass_on(&ear, &mut receiver).await,
                Self::Postgres(line) => line.pass_on(&ear, &mut receiver).await,
            };
            let Err(reason) = outcome else { return };
            tracing::warn!("no signals from other machines for a moment: {reason}");
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }
}

impl Far {
    /// Listens under the name `id` to those of `studio`; nothing where there is nothing to listen by.
    pub(super) fn start(
        config: &StorageConfig,
        studio: &str,
        id: &str,
        here: broadcast::Sender<Signal>,
    ) -> std::io::Result<Option<Self>> {
        let Some(carrier) = Carrier::of(config, studio) else { return Ok(None) };
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ear = Ear { id: id.to_owned(), folder: sockets::folder_of(&config.data_dir), here };
        let run = carrier.clone().run(ear, receiver);
        std::thread::Builder::new().name("notices".into()).spawn(move || runtime.block_on(run))?;
        Ok(Some(Self { id: id.to_owned(), carrier, sender, steps: Mutex::default() }))
    }

    /// To every other process of the studio.
    pub(super) fn send(&self, signal: &Signal) {
        let mut signal = signal.clone();
        if let Signal::Step { job_id, progress, .. } = &mut signal {
            if !self.is_due(job_id) {
                return;
            }
            if let Some(preview) = progress.get_mut("preview_url")
                && !self.carrier.carries_previews()
            {
                *preview = Json::Null;
            }
        }
        let notice = Notice { from: self.id.clone(), signal };
        match serde_json::to_string(&notice) {
            Ok(text) if text.len() <= self.carrier.max_bytes() => drop(self.sender.try_send(text)),
            _ => tracing::debug!("a signal that is too long for a notice stays on this machine"),
        }
    }

    fn is_due(&self, job_id: &str) -> bool {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.retain(|_, told| told.elapsed() < STEP_EVERY);
        let is_due = !steps.contains_key(job_id);
        if is_due {
            steps.insert(job_id.to_owned(), Instant::now());
        }
        is_due
    }
}

/// Hands on what comes from elsewhere.
pub(super) struct Ear {
    id: String,
    /// The sockets of those who are told without notices.
    folder: PathBuf,
    here: broadcast::Sender<Signal>,
}

impl Ear {
    pub(super) fn hear(&self, payload: &[u8]) {
        let Ok(Notice { from, signal }) = serde_json::from_slice(payload) else { return };
        let is_near = from == self.id || self.folder.join(&from).exists();
        if !is_near {
            drop(self.here.send(signal));
        }
    }
}
