//! The queue and its workers.

use masuka_storage::entities::{job_event, process};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use crate::times::rfc3339;

/// The queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueueView {
    pub paused: bool,
    /// Jobs that wait.
    pub pending: u64,
    /// Jobs that run.
    pub processing: u64,
    pub workers: Vec<ProcessView>,
}

/// A worker or server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessView {
    id: String,
    role: String,
    pid: i64,
    started_at: String,
    seen_at: String,
    /// Devices, loaded models and the like.
    #[schema(value_type = Object)]
    state: Json,
}

impl From<process::Model> for ProcessView {
    fn from(row: process::Model) -> Self {
        Self {
            state: serde_json::from_str(&row.state).unwrap_or_default(),
            started_at: rfc3339(row.started_at_ms),
            seen_at: rfc3339(row.seen_at_ms),
            id: row.id,
            role: row.role,
            pid: row.pid,
        }
    }
}

/// Where a waiting job shall stand; exactly one of these.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobPatch {
    /// -10 to 10, higher first.
    pub priority: Option<i64>,
    /// The waiting job of the same queue that comes next after it.
    pub before: Option<String>,
    /// The waiting job of the same queue that it comes next after.
    pub after: Option<String>,
}

/// Something that happened to a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogEntry {
    id: i64,
    at: String,
    event: String,
    #[schema(value_type = Object)]
    details: Json,
}

impl From<job_event::Model> for LogEntry {
    fn from(row: job_event::Model) -> Self {
        Self {
            id: row.id,
            at: rfc3339(row.at_ms),
            event: row.kind,
            details: serde_json::from_str(&row.payload).unwrap_or_default(),
        }
    }
}
