//! Deleted generations are gone for every reader at once, can be brought back for a while, and are then erased: files
//! first, rows last, so that an erasure that was cut short is finished by the next.

use sea_orm::{ConnectionTrait, Statement};
use serde_json::json;

use super::Generations;
use crate::blobs::{BlobKey, Blobs};
use crate::error::Result;
use crate::events::{self, Told};

/// How long a deleted generation can be brought back.
pub const RESTORE_WITHIN_MS: i64 = 30_000;

/// The rows of one, those that find the others last.
const ERASE_ROWS: [&str; 5] = [
    "DELETE FROM outputs WHERE job_id = $1",
    "DELETE FROM job_events WHERE job_id = $1",
    "DELETE FROM generation_loras WHERE generation_id = $1",
    "DELETE FROM generations WHERE id = $1",
    "DELETE FROM jobs WHERE id = $1",
];

impl Generations {
    /// Deletes it; an unfinished job is cancelled first. Whether a worker must hear of that.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], or the database refuses.
    pub async fn delete(&self, id: &str) -> Result<bool> {
        let found = self.find(id).await?;
        let running = self.queue.abandon(id, found.status).await?;
        let sql =
            "UPDATE generations SET deleted_at_ms = NOW_MS WHERE id = $1 AND deleted_at_ms IS NULL";
        self.mark(id, self.database.statement(sql, [id.into()]), "deleted").await?;
        Ok(running)
    }

    /// Brings it back.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when it was never there or the time is over, or the database refuses.
    pub async fn restore(&self, id: &str) -> Result<()> {
        let sql = "UPDATE generations SET deleted_at_ms = NULL \
                   WHERE id = $1 AND deleted_at_ms > NOW_MS - $2";
        let statement = self.database.statement(sql, [id.into(), RESTORE_WITHIN_MS.into()]);
        self.mark(id, statement, "restored").await
    }

    async fn mark(&self, id: &str, change: Statement, kind: &str) -> Result<()> {
        let payload = json!({ "status": kind });
        events::change(&self.database, change, Told { what: "job", id, kind, payload }).await
    }

    /// Erases what was deleted longer ago than can be restored; how many.
    ///
    /// # Errors
    /// When the database or the blobs refuse; the rest is erased another time.
    pub async fn erase_deleted(&self, blobs: &Blobs) -> Result<usize> {
        let sql = "SELECT g.id FROM generations g JOIN jobs j ON j.id = g.id \
                   WHERE g.deleted_at_ms <= NOW_MS - $1 AND j.status NOT IN ('queued', 'running') LIMIT 100";
        let values = [RESTORE_WITHIN_MS.into()];
        let rows =
            self.database.reader().query_all_raw(self.database.statement(sql, values)).await?;
        let count = rows.len();
        for row in rows {
            let id: String = row.try_get("", "id")?;
            blobs.delete_all(&BlobKey::parse(&format!("generated/{id}"))?).await?;
            self.database.execute_all(&ERASE_ROWS, &id).await?;
        }
        Ok(count)
    }
}
