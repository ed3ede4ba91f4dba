//! Deleted trainings are gone for every reader at once, and are then erased: files first, rows last. Their adapters stay.

use std::path::Path;

use sea_orm::ConnectionTrait;
use serde_json::json;

use super::Trainings;
use crate::blobs::{BlobKey, Blobs};
use crate::error::{Error, Result};
use crate::events;
use crate::queue::JobStatus;

impl Trainings {
    /// Deletes it; an unfinished job is cancelled first. Whether a worker must hear of that.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database refuses.
    pub async fn delete(&self, id: &str) -> Result<bool> {
        let found = self.find(id).await?;
        let running = match found.job.status()?.is_final() {
            true => false,
            false => match self.queue.cancel(id).await {
                Ok(status) => status == JobStatus::Running,
                Err(Error::WrongState { .. }) => false, // it has just ended
                Err(error) => return Err(error),
            },
        };
        let transaction = self.database.begin().await?;
        let sql = "UPDATE training_sessions SET deleted_at_ms = NOW_MS \
                   WHERE id = $1 AND deleted_at_ms IS NULL";
        let changed = transaction.execute_raw(self.database.statement(sql, [id.into()])).await?;
        if changed.rows_affected() == 0 {
            return Err(Error::not_found("training", id));
        }
        let payload = json!({ "status": "deleted" });
        events::record(&self.database, &transaction, id, "deleted", &payload).await?;
        transaction.commit().await?;
        Ok(running)
    }

    /// Erases what was deleted and runs no more, with its folder below `folder` of this machine; how many.
    ///
    /// # Errors
    /// When the database or the files refuse; the rest is erased another time.
    pub async fn erase_deleted(&self, blobs: &Blobs, folder: &Path) -> Result<usize> {
        let sql = "SELECT s.id FROM training_sessions s JOIN jobs j ON j.id = s.id \
                   WHERE s.deleted_at_ms IS NOT NULL AND j.status NOT IN ('queued', 'running') LIMIT 100";
        let rows = self.database.reader().query_all_raw(self.database.statement(sql, [])).await?;
        let count = rows.len();
        for row in rows {
            let id: String = row.try_get("", "id")?;
            blobs.delete_all(&BlobKey::parse(&format!("training/{id}"))?).await?;
            let own = folder.join(&id);
            match std::fs::remove_dir_all(&own) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(own, error));
                }
                _ => {}
            }
            self.erase_rows(&id).await?;
        }
        Ok(count)
    }

    async fn erase_rows(&self, id: &str) -> Result<()> {
        let transaction = self.database.begin().await?;
        let tables = [
            "DELETE FROM training_losses WHERE session_id = $1",
            "DELETE FROM training_samples WHERE session_id = $1",
            "DELETE FROM training_checkpoints WHERE session_id = $1",
            "DELETE FROM job_events WHERE job_id = $1",
            "DELETE FROM training_sessions WHERE id = $1",
            "DELETE FROM jobs WHERE id = $1",
        ];
        for sql in tables {
            transaction.execute_raw(self.database.statement(sql, [id.into()])).await?;
        }
        Ok(transaction.commit().await?)
    }
}
