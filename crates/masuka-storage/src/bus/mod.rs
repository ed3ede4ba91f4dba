//! Signals between processes: at once, and sometimes lost. What must not be lost stands in the database, which everybody
//! asks each second besides.

mod sockets; // within one data folder
mod far; // between machines
mod nats; // by NATS
mod postgres; // by PostgreSQL

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::config::StorageConfig;

use far::Far;
use sockets::Sockets;

pub use nats::{nats_servers, nats_version};

/// How many signals a slow listener may lag behind before it loses some.
const BACKLOG: usize = 1024;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "signal", rename_all = "snake_case")]
pub enum Signal {
    /// A job waits.
    JobQueued,
    /// A running job shall stop.
    CancelRequested {
        /// The job.
        job_id: String,
    },
    /// There are new rows in `job_events`.
    Events,
    /// Something that is no job is not as it was.
    Changed {
        /// Its kind, such as `queue`, `models` or `install`.
        what: String,
        /// How it is, where that is told along.
        #[serde(default)]
        details: serde_json::Value,
    },
    /// A step is done.
    Step {
        /// The job.
        job_id: String,
        /// Which claim of it.
        epoch: i64,
        /// How far it is, as in the job's row.
        progress: serde_json::Value,
    },
}

/// This process's end of it.
#[derive(Debug, Clone)]
pub struct Bus {
    here: broadcast::Sender<Signal>,
    elsewhere: Option<Arc<Sockets>>,
    far: Option<Arc<Far>>,
}

impl Bus {
    /// Joins the bus of `config`'s data folder and of `studio`'s other machines under the name `id`.
    pub fn join(config: &StorageConfig, studio: &str, id: &str) -> Self {
        let (here, _) = broadcast::channel(BACKLOG);
        let elsewhere = Sockets::open(&config.data_dir, id, here.clone());
        if let Err(error) = &elsewhere {
            tracing::warn!(
                "no socket for signals ({error}); other processes are asked each second instead"
            );
        }
        let far = Far::start(config, studio, id, here.clone());
        if let Err(error) = &far {
            tracing::warn!(
                "no signals from other machines ({error}); they are asked each second instead"
            );
        }
        Self {
            here,
            elsewhere: elsewhere.ok().map(Arc::new),
            far: far.ok().flatten().map(Arc::new),
        }
    }

    /// Tells everybody, this process included.
    pub fn publish(&self, signal: &Signal) {
        drop(self.here.send(signal.clone()));
        if let (Some(sockets), Ok(bytes)) = (&self.elsewhere, serde_json::to_vec(signal)) {
            sockets.send(&bytes);
        }
        if let Some(far) = &self.far {
            far.send(signal);
        }
    }

    /// Listens from here on.
    pub fn subscribe(&self) -> broadcast::Receiver<Signal> {
        self.here.subscribe()
    }
}
