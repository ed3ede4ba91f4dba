//! The `jobs` table is the queue. Everything that changes a job's state lives here: each change is one statement that
//! checks the state it starts from, together with the event that tells of it.

mod enqueue; // in the request's own transaction
mod claim; // the next job for a worker
mod lease; // signs of life, and the final word, both fenced
mod cancel; // cancel, retry, priorities, pause
mod place; // orders made by hand
mod reap; // jobs whose worker is gone

use std::fmt;
use std::str::FromStr;

use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait, Value};
use serde_json::json;

use crate::database::Database;
use crate::entities::job;
use crate::error::{Error, Result};
use crate::events;

pub use claim::{ClaimRequest, ClaimedJob};
pub use enqueue::{NewJob, PRIORITY_STEP_MS};
pub use lease::{Failure, Finished, Lease, LeaseState};
pub use place::Side;
pub use reap::Reaped;

/// The queue of pictures.
pub const GENERATION: &str = "generation";
/// The queue of trainings.
pub const TRAINING: &str = "training";
/// The user wants a running job to pause.
pub(crate) const WISH_PAUSE: &str = "pause";
/// The user wants a running job to save what it has.
pub(crate) const WISH_SAVE: &str = "save";

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Waits for a worker.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Waits for the user.
    Paused,
    /// Done; its outputs are published.
    Completed,
    /// Given up, with a message.
    Failed,
    /// Stopped by the user.
    Cancelled,
}

impl JobStatus {
    /// The word in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The word in events and in the HTTP interface.
    pub fn public_name(self) -> &'static str {
        match self {
            Self::Queued => "pending",
            Self::Running => "processing",
            _ => self.name(),
        }
    }

    /// Whether nothing but a retry changes it any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Paused)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for JobStatus {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [
            Self::Queued,
            Self::Running,
            Self::Paused,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
        ];
        let known = all.into_iter().find(|status| status.name() == name);
        known.ok_or_else(|| Error::corrupt("job status", name))
    }
}

impl job::Model {
    /// The status as the word it is.
    ///
    /// # Errors
    /// When the row holds an unknown word.
    pub fn status(&self) -> Result<JobStatus> {
        self.status.parse()
    }
}

/// The jobs of a database.
#[derive(Debug, Clone)]
pub struct Queue {
    database: Database,
}

impl Queue {
    /// The queue of `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// The job `id`.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn find(&self, id: &str) -> Result<job::Model> {
        let found = job::Entity::find_by_id(id).one(self.database.reader()).await?;
        found.ok_or_else(|| Error::not_found("job", id))
    }

    /// How many jobs stand before one that waits; 0 is next.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn position(&self, job: &job::Model) -> Result<u64> {
        let sql = "SELECT COUNT(*) AS n FROM jobs WHERE status = 'queued' AND queue = $1 \
                   AND (due_ms < $2 OR (due_ms = $2 AND id < $3))";
        let values = [job.queue.clone().into(), job.due_ms.into(), job.id.clone().into()];
        self.count(sql, values).await
    }

    /// Whether a job of `queue` waits.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn has_waiting(&self, queue: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM jobs WHERE status = 'queued' AND queue = $1 LIMIT 1";
        let statement = self.database.statement(sql, [queue.into()]);
        Ok(self.database.reader().query_one_raw(statement).await?.is_some())
    }

    /// How many jobs wait and run.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn depth(&self) -> Result<QueueDepth> {
        let count = "SELECT COUNT(*) AS n FROM jobs WHERE status = $1";
        let waiting = self.count(count, [JobStatus::Queued.name().into()]).await?;
        let running = self.count(count, [JobStatus::Running.name().into()]).await?;
        Ok(QueueDepth { waiting, running })
    }

    async fn count(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<u64> {
        let row =
            self.database.reader().query_one_raw(self.database.statement(sql, values)).await?;
        let count: i64 = row.map(|row| row.try_get("", "n")).transpose()?.unwrap_or(0);
        Ok(count.unsigned_abs())
    }

    /// Tells of a new status in the transaction that sets it.
    pub(crate) async fn tell(
        &self,
        transaction: &DatabaseTransaction,
        id: &str,
        status: JobStatus,
    ) -> Result<()> {
        let name = status.public_name();
        events::record(&self.database, transaction, id, name, &json!({ "status": name })).await?;
        Ok(())
    }
}

/// How many jobs wait and run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Not claimed yet.
    pub waiting: u64,
    /// Claimed.
    pub running: u64,
}
