//! Whether files and rows agree: files that nothing refers to, files that are missing, files with another content than
//! was recorded.

use std::collections::{BTreeSet, HashMap};

use sea_orm::ConnectionTrait;
use sha2::{Digest, Sha256};

use crate::Storage;
use crate::blobs::{BlobKey, StoredBlob};
use crate::error::{Error, Result};

/// What is younger may belong to a row that is being written.
const SETTLED_AFTER_MS: i64 = 60 * 60 * 1000;
/// The folders that are compared.
const FOLDERS: [&str; 5] = ["generated", "training", "models", "datasets", "probe"];
/// Those of jobs: what an unfinished job writes is its own however young it is.
const OF_JOBS: [&str; 2] = ["generated", "training"];
/// Every key that a row refers to, with the sha256 where it is recorded.
const REFERRED: &str = "SELECT blob_key, sha256 FROM outputs \
    UNION ALL SELECT thumbnail_key, NULL FROM outputs WHERE thumbnail_key IS NOT NULL \
    UNION ALL SELECT blob_key, sha256 FROM lora_models \
    UNION ALL SELECT blob_key, NULL FROM dataset_images \
    UNION ALL SELECT thumbnail_key, NULL FROM dataset_images \
    UNION ALL SELECT c.blob_key, NULL FROM training_checkpoints c JOIN training_sessions t ON t.id = c.session_id \
    WHERE t.deleted_at_ms IS NULL \
    UNION ALL SELECT s.blob_key, NULL FROM training_samples s JOIN training_sessions t ON t.id = s.session_id \
    WHERE t.deleted_at_ms IS NULL";
/// Who may have files that no row names: jobs that have not published theirs yet, LoRA with their samples, and deleted
/// trainings that are still to be erased.
const OWNERS: &str = "SELECT id FROM jobs WHERE status IN ('queued', 'running') \
    UNION ALL SELECT id FROM lora_models \
    UNION ALL SELECT id FROM training_sessions WHERE deleted_at_ms IS NOT NULL";

/// What does not agree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disagreements {
    /// Files that nothing refers to, with their sizes.
    pub orphans: Vec<(BlobKey, u64)>,
    /// Files that rows refer to and that are not there.
    pub missing: Vec<BlobKey>,
    /// Files with another content than was recorded.
    pub damaged: Vec<BlobKey>,
}

impl Disagreements {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.orphans.is_empty() && self.missing.is_empty() && self.damaged.is_empty()
    }
}

impl Storage {
    /// Compares files and rows; `reads_all` compares contents, too. Safe while servers and workers run.
    ///
    /// # Errors
    /// When the database or the store is gone.
    pub async fn compare(&self, reads_all: bool) -> Result<Disagreements> {
        // Files first: what is published meanwhile is in the rows, and what is not yet is of an unfinished job.
        let mut stored = Vec::new();
        for folder in FOLDERS {
            stored.extend(self.blobs().list_all(&BlobKey::parse(folder)?).await?);
        }
        let referred = self.referred().await?;
        let owners = self.owners().await?;
        let now_ms = self.database().now_ms().await?;
        let is_orphan = |blob: &StoredBlob| {
            let mut parts = blob.key.as_str().split('/');
            let (folder, owner) = (parts.next(), parts.next().unwrap_or_default());
            let is_settled = folder.is_some_and(|folder| OF_JOBS.contains(&folder))
                || blob.modified_ms < now_ms - SETTLED_AFTER_MS;
            is_settled && !owners.contains(owner) && !referred.contains_key(&blob.key)
        };
        let there: BTreeSet<_> = stored.iter().map(|blob| &blob.key).collect();
        let mut found = Disagreements {
            orphans: stored
                .iter()
                .filter(|b| is_orphan(b))
                .map(|b| (b.key.clone(), b.bytes))
                .collect(),
            ..Disagreements::default()
        };
        for (key, sha256) in &referred {
            if !there.contains(key) && self.is_still_referred(key).await? {
                found.missing.push(key.clone());
            } else if let Some(sha256) =
                sha256.as_ref().filter(|_| reads_all && there.contains(key))
                && self.hash(key).await? != *sha256
            {
                found.damaged.push(key.clone());
            }
        }
        found.missing.sort();
        found.damaged.sort();
        Ok(found)
    }

    /// Removes the orphans that were found; how many.
    ///
    /// # Errors
    /// When the store refuses; the rest can be removed by another call.
    pub async fn remove_orphans(&self, found: &Disagreements) -> Result<usize> {
        for (key, _) in &found.orphans {
            self.blobs().delete(key).await?;
        }
        Ok(found.orphans.len())
    }

    async fn referred(&self) -> Result<HashMap<BlobKey, Option<String>>> {
        let database = self.database();
        let rows = database.reader().query_all_raw(database.statement(REFERRED, [])).await?;
        let pair = |row: &sea_orm::QueryResult| -> Result<_> {
            let key: String = row.try_get("", "blob_key")?;
            Ok((BlobKey::parse(&key)?, row.try_get("", "sha256")?))
        };
        rows.iter().map(pair).collect()
    }

    /// Whether what was missing has not been deleted meanwhile.
    async fn is_still_referred(&self, key: &BlobKey) -> Result<bool> {
        let sql = format!("SELECT 1 FROM ({REFERRED}) AS r WHERE blob_key = $1");
        let statement = self.database().statement(&sql, [key.as_str().into()]);
        Ok(self.database().reader().query_one_raw(statement).await?.is_some())
    }

    async fn owners(&self) -> Result<BTreeSet<String>> {
        let statement = self.database().statement(OWNERS, []);
        let rows = self.database().reader().query_all_raw(statement).await?;
        rows.iter().map(|row| row.try_get("", "id").map_err(Error::from)).collect()
    }

    async fn hash(&self, key: &BlobKey) -> Result<String> {
        use futures_util::TryStreamExt;
        let mut content = self.blobs().stream(key, None).await?.bytes;
        let mut hash = Sha256::new();
        while let Some(chunk) = content.try_next().await? {
            hash.update(&chunk);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
