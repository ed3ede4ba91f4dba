//! What users do to jobs: cancel, retry, move, pause.

use sea_orm::{ConnectionTrait, EntityTrait};

use super::enqueue::PRIORITY_STEP_MS;
use super::{JobStatus, Queue};
use crate::entities::job;
use crate::error::{Error, Result};
use crate::settings;

impl Queue {
    /// Stops a job: one that waits at once, one that runs as soon as its worker sees it. The state it is in then.
    ///
    /// # Errors
    /// [`Error::WrongState`] when it is over, [`Error::NotFound`], or the database refuses.
    pub async fn cancel(&self, id: &str) -> Result<JobStatus> {
        let sql = "UPDATE jobs SET cancel_requested = TRUE, \
                finished_at_ms = CASE WHEN status <> 'running' THEN NOW_MS ELSE finished_at_ms END, \
                status = CASE WHEN status <> 'running' THEN 'cancelled' ELSE status END \
             WHERE id = $1 AND status IN ('queued', 'running', 'paused') RETURNING *";
        let transaction = self.database.begin().await?;
        let statement = self.database.statement(sql, [id.into()]);
        let changed = job::Entity::find().from_raw_sql(statement).one(&transaction).await?;
        let Some(job) = changed else {
            drop(transaction);
            return Err(self
                .refuse(id, "only pending or processing jobs can be cancelled")
                .await?);
        };
        let status = job.status()?;
        if status == JobStatus::Cancelled {
            self.tell_end(&transaction, &job).await?;
        }
        transaction.commit().await?;
        Ok(status)
    }

    /// Stops a job in `status` if it is not over, because what it makes is deleted. Whether a worker must hear of that.
    pub(crate) async fn abandon(&self, id: &str, status: JobStatus) -> Result<bool> {
        if status.is_final() {
            return Ok(false);
        }
        match self.cancel(id).await {
            Ok(status) => Ok(status == JobStatus::Running),
            Err(Error::WrongState { .. }) => Ok(false), // it has just ended
            Err(error) => Err(error),
        }
    }

    /// Queues a failed or cancelled job again, as if it were new.
    ///
    /// # Errors
    /// [`Error::WrongState`], [`Error::NotFound`], or the database refuses.
    pub async fn retry(&self, id: &str) -> Result<()> {
        let sql = "UPDATE jobs SET status = 'queued', attempts = 0, cancel_requested = FALSE, worker_id = NULL, \
                progress = NULL, error_code = NULL, error_message = NULL, started_at_ms = NULL, \
                finished_at_ms = NULL, due_ms = NOW_MS - priority * $2 \
             WHERE id = $1 AND status IN ('failed', 'cancelled')";
        let transaction = self.database.begin().await?;
        let statement = self.database.statement(sql, [id.into(), PRIORITY_STEP_MS.into()]);
        if transaction.execute_raw(statement).await?.rows_affected() == 0 {
            drop(transaction);
            return Err(self.refuse(id, "only failed or cancelled jobs can be retried").await?);
        }
        self.tell(&transaction, id, JobStatus::Queued).await?;
        Ok(transaction.commit().await?)
    }

    /// Moves a waiting job.
    ///
    /// # Errors
    /// [`Error::WrongState`], [`Error::NotFound`], or the database refuses.
    pub async fn set_priority(&self, id: &str, priority: i64) -> Result<()> {
        let sql = "UPDATE jobs SET due_ms = due_ms - ($2 - priority) * $3, priority = $2 \
             WHERE id = $1 AND status = 'queued'";
        let values = [id.into(), priority.into(), PRIORITY_STEP_MS.into()];
        let statement = self.database.statement(sql, values);
        if self.database.writer().execute_raw(statement).await?.rows_affected() == 0 {
            return Err(self.refuse(id, "only pending jobs can be moved").await?);
        }
        Ok(())
    }

    /// Stops handing out jobs; running ones go on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn pause(&self) -> Result<()> {
        settings::set(&self.database, settings::QUEUE_PAUSED, "yes").await
    }

    /// Hands out jobs again.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn resume(&self) -> Result<()> {
        settings::unset(&self.database, settings::QUEUE_PAUSED).await
    }

    /// Whether jobs are handed out.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn is_paused(&self) -> Result<bool> {
        Ok(settings::get(&self.database, settings::QUEUE_PAUSED).await?.is_some())
    }

    /// The error for a job in a state that `rule` does not allow.
    async fn refuse(&self, id: &str, rule: &'static str) -> Result<Error> {
        let job = self.find(id).await?;
        let status = job.status()?.public_name().to_owned();
        Ok(Error::WrongState { id: id.to_owned(), status, rule })
    }
}
