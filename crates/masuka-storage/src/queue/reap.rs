//! Jobs whose worker is gone. A worker that died while its server lived counts as an attempt: its job may be what
//! kills. A worker that went down with its server does not.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{JobStatus, Queue};
use crate::entities::job;
use crate::error::Result;
use crate::processes::{Liveness, Processes, Supervisor};

/// A job that was taken from its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// The job.
    pub job_id: String,
    /// What became of it.
    pub status: JobStatus,
    /// Whether it counts as an attempt.
    pub counted: bool,
}

impl Queue {
    /// Takes every running job of `worker_id`, which is dead for certain.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn worker_died(&self, worker_id: &str, counts: bool) -> Result<Vec<Reaped>> {
        let query = job::Entity::find()
            .filter(job::Column::Status.eq(JobStatus::Running.name()))
            .filter(job::Column::WorkerId.eq(worker_id));
        let mut reaped = Vec::new();
        for job in query.all(self.database.writer()).await? {
            reaped.extend(self.take(&job, counts).await?);
        }
        Ok(reaped)
    }

    /// Looks after every running job: takes those whose worker is dead, or gave no sign of life in time.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reap(&self, processes: &Processes) -> Result<Vec<Reaped>> {
        let running = job::Entity::find()
            .filter(job::Column::Status.eq(JobStatus::Running.name()))
            .order_by_asc(job::Column::DueMs)
            .all(self.database.reader())
            .await?;
        if running.is_empty() {
            return Ok(Vec::new());
        }
        let now_ms = self.database.now_ms().await?;
        let mut reaped = Vec::new();
        for job in running {
            let expired = job.lease_until_ms.is_none_or(|until| until < now_ms);
            let worker_id = job.worker_id.clone().unwrap_or_default();
            let counts = match processes.liveness(&worker_id).await? {
                Liveness::Dead(Supervisor::Lives) if !expired => continue, // it will tell
                Liveness::Alive | Liveness::Unknown(_) if !expired => continue,
                Liveness::Alive => false, // it does not die of the job, it stands still
                Liveness::Dead(server) | Liveness::Unknown(server) => server != Supervisor::Dead,
            };
            reaped.extend(self.take(&job, counts).await?);
        }
        Ok(reaped)
    }

    /// Takes `job` from the worker that had it in this epoch; `None` if it was faster.
    async fn take(&self, job: &job::Model, counts: bool) -> Result<Option<Reaped>> {
        let sql = "UPDATE jobs SET attempts = attempts + $3, worker_id = NULL, lease_until_ms = NULL, progress = NULL, \
                status = CASE WHEN cancel_requested THEN 'cancelled' \
                    WHEN attempts + $3 >= max_attempts THEN 'failed' \
                    WHEN wish = 'pause' THEN 'paused' ELSE 'queued' END, \
                finished_at_ms = CASE WHEN cancel_requested OR attempts + $3 >= max_attempts THEN NOW_MS END, \
                error_code = CASE WHEN NOT cancel_requested AND attempts + $3 >= max_attempts \
                    THEN 'worker_died' END, \
                error_message = CASE WHEN NOT cancel_requested AND attempts + $3 >= max_attempts THEN $4 END \
             WHERE id = $1 AND lease_epoch = $2 AND status = 'running' RETURNING *";
        let message = format!(
            "the worker died {} times while it ran this job; try a smaller size or fewer images, and see the \
             server's log for the reason",
            job.attempts + i64::from(counts)
        );
        let values = [
            job.id.clone().into(),
            job.lease_epoch.into(),
            i64::from(counts).into(),
            message.into(),
        ];
        let transaction = self.database.begin().await?;
        let statement = self.database.statement(sql, values);
        let taken = job::Entity::find().from_raw_sql(statement).one(&transaction).await?;
        let Some(taken) = taken else { return Ok(None) };
        let status = taken.status()?;
        match status {
            JobStatus::Queued | JobStatus::Paused => {
                self.tell(&transaction, &taken.id, status).await?;
            }
            _ => self.tell_end(&transaction, &taken).await?,
        }
        transaction.commit().await?;
        Ok(Some(Reaped { job_id: taken.id, status, counted: counts }))
    }
}
