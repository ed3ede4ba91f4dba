//! What users do to trainings besides cancelling them: pause, resume, save.

use sea_orm::EntityTrait;

use super::Trainings;
use crate::entities::job;
use crate::error::{Error, Result};
use crate::queue::{JobStatus, PRIORITY_STEP_MS, WISH_PAUSE, WISH_SAVE};

impl Trainings {
    /// Pauses a training: one that waits at once, one that runs after a checkpoint.
    ///
    /// # Errors
    /// [`Error::WrongState`] in any other state, [`Error::NotFound`], or the database refuses.
    pub async fn pause(&self, id: &str) -> Result<()> {
        let sql = "UPDATE jobs SET wish = CASE WHEN status = 'running' THEN $2 ELSE NULL END, \
                status = CASE WHEN status = 'queued' THEN 'paused' ELSE status END \
             WHERE id = $1 AND status IN ('queued', 'running') RETURNING *";
        let rule = "only pending or running trainings can be paused";
        self.change(id, sql, [id.into(), WISH_PAUSE.into()], rule).await
    }

    /// Queues a paused, cancelled or failed training again; it goes on from its last checkpoint.
    ///
    /// # Errors
    /// [`Error::WrongState`] in any other state, [`Error::NotFound`], or the database refuses.
    pub async fn resume(&self, id: &str) -> Result<()> {
        let sql = "UPDATE jobs SET status = 'queued', attempts = 0, cancel_requested = FALSE, wish = NULL, \
                worker_id = NULL, error_code = NULL, error_message = NULL, finished_at_ms = NULL, \
                due_ms = NOW_MS - priority * $2 \
             WHERE id = $1 AND status IN ('paused', 'failed', 'cancelled') RETURNING *";
        let rule = "only paused, cancelled or failed trainings can be resumed";
        self.change(id, sql, [id.into(), PRIORITY_STEP_MS.into()], rule).await
    }

    /// Asks a running training for a checkpoint after its current step.
    ///
    /// # Errors
    /// [`Error::WrongState`] when it does not run, [`Error::NotFound`], or the database refuses.
    pub async fn save(&self, id: &str) -> Result<()> {
        let sql = "UPDATE jobs SET wish = COALESCE(wish, $2) WHERE id = $1 AND status = 'running' RETURNING *";
        let rule = "only running trainings have something to save";
        self.change(id, sql, [id.into(), WISH_SAVE.into()], rule).await
    }

    async fn change(
        &self,
        id: &str,
        sql: &str,
        values: [sea_orm::Value; 2],
        rule: &'static str,
    ) -> Result<()> {
        let before = self.find(id).await?.job.status()?;
        let transaction = self.database.begin().await?;
        let statement = self.database.statement(sql, values);
        let changed = job::Entity::find().from_raw_sql(statement).one(&transaction).await?;
        let Some(job) = changed else {
            drop(transaction);
            let status = self.queue.find(id).await?.status()?.public_name().to_owned();
            return Err(Error::WrongState { id: id.to_owned(), status, rule });
        };
        let status = job.status()?;
        if status != before && status != JobStatus::Running {
            self.queue.tell(&transaction, id, status).await?;
        }
        Ok(transaction.commit().await?)
    }
}
