//! In the request's own transaction: a job exists exactly when what it is about exists.

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::{JobStatus, Queue};
use crate::error::{Error, Result};

/// How much earlier each priority level stands in the queue. Since it is a time, no job starves: one of priority 0
/// stands before everything of priority 10 that came more than 100 minutes later.
pub const PRIORITY_STEP_MS: i64 = 10 * 60 * 1000;

/// A job to be.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// A UUID; version 7, so that equal times are ordered.
    pub id: String,
    /// [`GENERATION`](super::GENERATION) or [`TRAINING`](super::TRAINING).
    pub queue: &'static str,
    /// Which file of `masuka-jobs` runs it.
    pub kind: &'static str,
    /// The base model it needs.
    pub base_model: String,
    /// −10…10, higher first.
    pub priority: i64,
    /// After how many dead workers it fails.
    pub max_attempts: i64,
}

impl Queue {
    /// Adds `job`; it exists once `transaction` commits.
    ///
    /// # Errors
    /// [`Error::QueueFull`] when `limit` jobs wait already, or the database refuses.
    pub(crate) async fn enqueue(
        &self,
        transaction: &DatabaseTransaction,
        job: &NewJob,
        limit: u64,
    ) -> Result<()> {
        let sql = "INSERT INTO jobs \
            (id, queue, kind, base_model, status, priority, due_ms, max_attempts, created_at_ms) \
            SELECT $1, $2, $3, $4, 'queued', $5, NOW_MS - $5 * $6, $7, NOW_MS \
            WHERE (SELECT COUNT(*) FROM jobs WHERE status = 'queued') < $8";
        let values = [
            job.id.clone().into(),
            job.queue.into(),
            job.kind.into(),
            job.base_model.clone().into(),
            job.priority.into(),
            PRIORITY_STEP_MS.into(),
            job.max_attempts.into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        let result = transaction.execute_raw(self.database.statement(sql, values)).await?;
        if result.rows_affected() == 0 {
            return Err(Error::QueueFull { limit });
        }
        self.tell(transaction, &job.id, JobStatus::Queued).await
    }
}
