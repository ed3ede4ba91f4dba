//! Deleted generations are gone for every reader at once, can be brought back for a while, and are then erased: files
//! first, rows last, so that an erasure that was cut short is finished by the next.

use sea_orm::{ConnectionTrait, Statement};
use serde_json::json;

use super::Generations;
use crate::blobs::{BlobKey, Blobs};
use crate::error::{Error, Result};
use crate::events;
use crate::queue::JobStatus;

/// How long a deleted generation can be brought back.
pub const RESTORE_WITHIN_MS: i64 = 30_000;

impl Generations {
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
        let sql =
            "UPDATE generations SET deleted_at_ms = NOW_MS WHERE id = $1 AND deleted_at_ms IS NULL";
        self.mark(id, self.database.statement(sql, [id.into()]), "deleted").await?;
        Ok(running)
    }

    /// Brings it back.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it was never there or the time is over, or the database refuses.
    pub async fn restore(&self, id: &str) -> Result<()> {
        let sql = "UPDATE generations SET deleted_at_ms = NULL \
                   WHERE id = $1 AND deleted_at_ms > NOW_MS - $2";
        let statement = self.database.statement(sql, [id.into(), RESTORE_WITHIN_MS.into()]);
        self.mark(id, statement, "restored").await
    }

    async fn mark(&self, id: &str, change: Statement, kind: &str) -> Result<()> {
        let transaction = self.database.begin().await?;
        let changed = transaction.execute_raw(change).await?;
        if changed.rows_affected() == 0 {
            return Err(Error::not_found("job", id));
        }
        events::record(&self.database, &transaction, id, kind, &json!({ "status": kind })).await?;
        Ok(transaction.commit().await?)
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
            self.erase_rows(&id).await?;
        }
        Ok(count)
    }

    async fn erase_rows(&self, id: &str) -> Result<()> {
        let transaction = self.database.begin().await?;
        let tables = [
            "DELETE FROM outputs WHERE job_id = $1",
            "DELETE FROM job_events WHERE job_id = $1",
            "DELETE FROM generation_loras WHERE generation_id = $1",
            "DELETE FROM generations WHERE id = $1",
            "DELETE FROM jobs WHERE id = $1",
        ];
        for sql in tables {
            transaction.execute_raw(self.database.statement(sql, [id.into()])).await?;
        }
        Ok(transaction.commit().await?)
    }
}
