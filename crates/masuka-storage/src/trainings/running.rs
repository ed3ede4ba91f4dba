//! What a worker writes down while it trains. Every write is under its lease: of a worker that lost it, nothing counts.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder,
};
use serde_json::json;

use super::Trainings;
use crate::entities::{lora_model, training_checkpoint, training_loss, training_sample};
use crate::error::Result;
use crate::events;
use crate::queue::{Finished, Lease};

/// Checkpoints that are kept; the one before the latest in case that is damaged.
const KEPT: usize = 2;
/// Rows of one statement; SQLite takes 32,766 values.
const ROWS: usize = 1000;

impl Trainings {
    /// The training goes on from `step`: what was written down after it will come again. Whether the lease holds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn begin_at(&self, lease: &Lease, step: u64) -> Result<bool> {
        let Some(transaction) = self.queue.begin_held(lease).await? else { return Ok(false) };
        for table in ["training_losses", "training_samples", "training_checkpoints"] {
            let sql = format!("DELETE FROM {table} WHERE session_id = $1 AND step > $2");
            let values = [lease.job_id.clone().into(), (step as i64).into()];
            transaction.execute_raw(self.database.statement(&sql, values)).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Adds to the loss curve. Whether the lease holds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn add_losses(&self, lease: &Lease, losses: &[training_loss::Model]) -> Result<bool> {
        let Some(transaction) = self.queue.begin_held(lease).await? else { return Ok(false) };
        for rows in losses.chunks(ROWS) {
            let rows = rows.iter().map(|row| row.clone().into_active_model().reset_all());
            training_loss::Entity::insert_many(rows).exec_without_returning(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Publishes a checkpoint whose file is stored already. The keys of files that are not needed any more; nothing if
    /// the lease is lost.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn add_checkpoint(
        &self,
        lease: &Lease,
        checkpoint: &training_checkpoint::Model,
    ) -> Result<Option<Vec<String>>> {
        use training_checkpoint::{Column, Entity};
        let Some(transaction) = self.queue.begin_held(lease).await? else { return Ok(None) };
        Entity::delete_by_id((checkpoint.session_id.clone(), checkpoint.step))
            .exec(&transaction)
            .await?;
        let sql = "INSERT INTO training_checkpoints (session_id, step, blob_key, bytes, created_at_ms) \
                   VALUES ($1, $2, $3, $4, NOW_MS)";
        let values = [
            checkpoint.session_id.clone().into(),
            checkpoint.step.into(),
            checkpoint.blob_key.clone().into(),
            checkpoint.bytes.into(),
        ];
        transaction.execute_raw(self.database.statement(sql, values)).await?;
        // A training that gets on is not what its workers died of; and what was wished is done.
        let sql = "UPDATE jobs SET attempts = 0, wish = CASE WHEN wish = 'save' THEN NULL ELSE wish END \
                   WHERE id = $1";
        let values = [lease.job_id.clone().into()];
        transaction.execute_raw(self.database.statement(sql, values)).await?;
        let query = Entity::find()
            .filter(Column::SessionId.eq(&checkpoint.session_id))
            .order_by_desc(Column::Step);
        let mut old = Vec::new();
        for row in query.all(&transaction).await?.into_iter().skip(KEPT) {
            Entity::delete_by_id((row.session_id, row.step)).exec(&transaction).await?;
            old.push(row.blob_key);
        }
        let payload =
            json!({ "checkpoint": { "step": checkpoint.step, "bytes": checkpoint.bytes } });
        events::record(&self.database, &transaction, &lease.job_id, "checkpoint", &payload).await?;
        transaction.commit().await?;
        Ok(Some(old))
    }

    /// Publishes a sample whose file is stored already. Whether the lease holds.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn add_sample(&self, lease: &Lease, sample: &training_sample::Model) -> Result<bool> {
        let Some(transaction) = self.queue.begin_held(lease).await? else { return Ok(false) };
        let key = (sample.session_id.clone(), sample.step, sample.position);
        training_sample::Entity::delete_by_id(key).exec(&transaction).await?;
        let row = sample.clone().into_active_model().reset_all();
        training_sample::Entity::insert(row).exec_without_returning(&transaction).await?;
        let training_sample::Model { step, position, prompt, blob_key, .. } = sample;
        let payload = json!({
            "sample": { "step": step, "index": position, "prompt": prompt, "blob_key": blob_key },
        });
        events::record(&self.database, &transaction, &lease.job_id, "sample", &payload).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Ends a training and registers its adapter, both or neither.
    ///
    /// # Errors
    /// When the database refuses; the job is then still running.
    pub async fn complete(&self, lease: &Lease, model: &lora_model::Model) -> Result<Finished> {
        let now_ms = self.database.now_ms().await?;
        let transaction = self.database.begin().await?;
        let finished = self.queue.end_completed(&transaction, lease).await?;
        if finished == Finished::Accepted {
            let row = lora_model::Model { created_at_ms: now_ms, ..model.clone() };
            let row = row.into_active_model().reset_all();
            lora_model::Entity::insert(row).exec_without_returning(&transaction).await?;
            let sql = "UPDATE training_sessions SET model_id = $2 WHERE id = $1";
            let values = [lease.job_id.clone().into(), model.id.clone().into()];
            transaction.execute_raw(self.database.statement(sql, values)).await?;
        }
        transaction.commit().await?;
        Ok(finished)
    }
}
