//! Between machines, through PostgreSQL's `NOTIFY`, on a thread with connections of its own. Who shares the sender's data
//! folder hears of it by its socket and leaves the notice alone.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::{PgConnection, PgListener};
use sea_orm::sqlx::{self, Connection};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::{broadcast, mpsc};

use super::{Signal, sockets};
use crate::config::StorageConfig;

const CHANNEL: &str = "masuka";
/// PostgreSQL refuses a payload of 8,000 bytes.
const MAX_PAYLOAD_BYTES: usize = 7_999;
/// How often the steps of a job are told of.
const STEP_EVERY: Duration = Duration::from_millis(250);
/// What waits for a database that does not answer; more is lost.
const BACKLOG: usize = 256;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// This process's end of it.
#[derive(Debug)]
pub(super) struct Notices {
    id: String,
    sender: mpsc::Sender<String>,
    /// When a job's step was told of last.
    steps: Mutex<HashMap<String, Instant>>,
}

/// What is sent.
#[derive(Serialize, Deserialize)]
struct Notice {
    from: String,
    signal: Signal,
}

impl Notices {
    /// Listens under the name `id`; nothing where the database is not PostgreSQL.
    pub(super) fn start(
        config: &StorageConfig,
        id: &str,
        here: broadcast::Sender<Signal>,
    ) -> std::io::Result<Option<Self>> {
        let url = config.database_url();
        if url.starts_with("sqlite:") {
            return Ok(None);
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let folder = sockets::folder_of(&config.data_dir);
        let line = Line { url, id: id.to_owned(), folder, here };
        std::thread::Builder::new()
            .name("notices".into())
            .spawn(move || runtime.block_on(line.run(receiver)))?;
        Ok(Some(Self { id: id.to_owned(), sender, steps: Mutex::default() }))
    }

    /// To every other process of the database; without previews, which no payload has room for.
    pub(super) fn send(&self, signal: &Signal) {
        let mut signal = signal.clone();
        if let Signal::Step { job_id, progress, .. } = &mut signal {
            if !self.is_due(job_id) {
                return;
            }
            if let Some(preview) = progress.get_mut("preview_url") {
                *preview = Json::Null;
            }
        }
        let notice = Notice { from: self.id.clone(), signal };
        match serde_json::to_string(&notice) {
            Ok(text) if text.len() <= MAX_PAYLOAD_BYTES => drop(self.sender.try_send(text)),
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

/// The thread's side.
struct Line {
    url: String,
    id: String,
    /// The sockets of those who are told without notices.
    folder: PathBuf,
    here: broadcast::Sender<Signal>,
}

impl Line {
    /// Until the other side is dropped.
    async fn run(self, mut receiver: mpsc::Receiver<String>) {
        while let Err(error) = self.pass_on(&mut receiver).await {
            tracing::warn!("no signals from other machines for a moment: {error}");
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn pass_on(&self, receiver: &mut mpsc::Receiver<String>) -> sqlx::Result<()> {
        let mut listener = PgListener::connect(&self.url).await?;
        listener.listen(CHANNEL).await?;
        let mut connection = PgConnection::connect(&self.url).await?;
        loop {
            tokio::select! {
                notice = listener.recv() => self.hear(notice?.payload()),
                text = receiver.recv() => {
                    let Some(text) = text else { return Ok(()) };
                    let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(text);
                    notify.execute(&mut connection).await?;
                }
            }
        }
    }

    fn hear(&self, payload: &str) {
        let Ok(Notice { from, signal }) = serde_json::from_str(payload) else { return };
        let is_near = from == self.id || self.folder.join(&from).exists();
        if !is_near {
            drop(self.here.send(signal));
        }
    }
}
