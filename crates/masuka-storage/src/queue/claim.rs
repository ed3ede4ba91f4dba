//! The next job for a worker.

use sea_orm::EntityTrait;

use super::lease::LEASE_MS;
use super::{JobStatus, Lease, Queue};
use crate::entities::job;
use crate::error::Result;

/// How much earlier a job counts whose base model is loaded already: enough to spare reloading between neighbours,
/// too little to let others wait for long.
pub(super) const AFFINITY_MS: i64 = 60 * 1000;

/// What a worker can do.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The worker.
    pub worker_id: String,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The base model it has loaded.
    pub loaded_model: Option<String>,
    /// Base models whose jobs are left to others.
    pub lacks: Vec<String>,
    /// Jobs that are left to others, or to later.
    pub except: Vec<String>,
}

/// A job with the right to run it.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    /// The job.
    pub job: job::Model,
    /// The right.
    pub lease: Lease,
}

impl Queue {
    /// Takes the next job, if one waits and the queue is not paused. Two claimers never get the same.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Option<ClaimedJob>> {
        let ClaimRequest { queues, lacks, except, .. } = request;
        let mut place = 4;
        let mut list = |names: &[String]| {
            let places: Vec<_> = (1..=names.len()).map(|i| format!("${}", place + i)).collect();
            place += names.len();
            places.join(", ")
        };
        let mut conditions = vec![format!("AND queue IN ({})", list(queues))];
        for (column, names) in [("base_model", lacks), ("id", except)] {
            if !names.is_empty() {
                conditions.push(format!("AND {column} NOT IN ({})", list(names)));
            }
        }
        let sql = format!(
            "UPDATE jobs SET status = 'running', worker_id = $1, lease_epoch = lease_epoch + 1, \
                 lease_until_ms = NOW_MS + $2, started_at_ms = COALESCE(started_at_ms, NOW_MS), progress = NULL, wish = NULL \
             WHERE id = (SELECT id FROM jobs WHERE status = 'queued' {} \
                 AND NOT EXISTS (SELECT 1 FROM settings WHERE name = 'queue_paused') \
                 ORDER BY due_ms - CASE WHEN base_model = $3 THEN $4 ELSE 0 END, id LIMIT 1 SKIP_LOCKED) \
             AND status = 'queued' RETURNING *",
            conditions.join(" ")
        );
        let mut values = vec![
            request.worker_id.clone().into(),
            LEASE_MS.into(),
            request.loaded_model.clone().unwrap_or_default().into(),
            AFFINITY_MS.into(),
        ];
        values.extend(queues.iter().chain(lacks).chain(except).map(|name| name.clone().into()));
        let transaction = self.database.begin().await?;
        let statement = self.database.statement(&sql, values);
        let claimed = job::Entity::find().from_raw_sql(statement).one(&transaction).await?;
        let Some(job) = claimed else { return Ok(None) };
        self.tell(&transaction, &job.id, JobStatus::Running).await?;
        transaction.commit().await?;
        let lease = Lease {
            job_id: job.id.clone(),
            worker_id: request.worker_id.clone(),
            epoch: job.lease_epoch,
        };
        Ok(Some(ClaimedJob { job, lease }))
    }
}
