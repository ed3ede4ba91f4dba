//! Deleted trainings are gone for every reader at once, and are then erased: files first, rows last. Their adapters stay.

use std::path::Path;

use sea_orm::ConnectionTrait;
use serde_json::json;

use super::Trainings;
use crate::blobs::{BlobKey, Blobs};
use crate::error::{Error, Result};
use crate::events::{self, Told};

/// The rows of one, those that find the others last.
const ERASE_ROWS: [&str; 6] = [
    "DELETE FROM training_losses WHERE session_id = $1",
    "DELETE FROM training_samples WHERE session_id = $1",
    "DELETE FROM training_checkpoints WHERE session_id = $1",
    "DELETE FROM job_events WHERE job_id = $1",
    "DELETE FROM training_sessions WHERE id = $1",
    "DELETE FROM jobs WHERE id = $1",
];

impl Trainings {
    /// Deletes it; an unfinished job is cancelled first. Whether a worker must hear of that.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database refuses.
    pub async fn delete(&self, id: &str) -> Result<bool> {
        let found = self.find(id).await?;
        let running = self.queue.abandon(id, found.job.status()?).await?;
        let sql = "UPDATE training_sessions SET deleted_at_ms = NOW_MS \
                   WHERE id = $1 AND deleted_at_ms IS NULL";
        let change = self.database.statement(sql, [id.into()]);
        let payload = json!({ "status": "deleted" });
        let told = Told { what: "training", id, kind: "deleted", payload };
        events::change(&self.database, change, told).await?;
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
            self.database.execute_all(&ERASE_ROWS, &id).await?;
        }
        Ok(count)
    }
}
