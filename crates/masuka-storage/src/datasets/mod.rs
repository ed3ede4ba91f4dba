//! Pictures and captions to train on.

mod images; // pictures: added once, captioned, deleted
mod erase; // files and rows of what was deleted

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
};

use crate::database::Database;
use crate::entities::dataset::{Column, Entity, Model};
use crate::error::{Error, Result};

pub use images::Added;

/// The condition of every deletion: no training that could go on needs the dataset `$1`.
const NOT_IN_USE: &str = "NOT EXISTS (SELECT 1 FROM training_sessions s JOIN jobs j ON j.id = s.id \
     WHERE s.dataset_id = $1 AND s.deleted_at_ms IS NULL AND j.status IN ('queued', 'running', 'paused'))";

/// The data sets of a database.
#[derive(Debug, Clone)]
pub struct Datasets {
    database: Database,
}

/// A data set to be.
#[derive(Debug, Clone)]
pub struct NewDataset {
    /// A UUID.
    pub id: String,
    /// For people.
    pub name: String,
    /// The word that the captions call the style or subject by.
    pub trigger_word: Option<String>,
    /// The user's own.
    pub metadata: serde_json::Map<String, serde_json::Value>,
}

/// A data set with what can be counted of it.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What the user said.
    pub row: Model,
    /// How many pictures it has.
    pub images: u64,
    /// How many of them have captions.
    pub captioned: u64,
}

#[derive(Debug, FromQueryResult)]
struct Counts {
    dataset_id: String,
    images: i64,
    captioned: i64,
}

impl Datasets {
    /// The data sets of `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Makes one, without pictures.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn create(&self, new: &NewDataset) -> Result<Dataset> {
        let sql = "INSERT INTO datasets (id, name, trigger_word, metadata, created_at_ms) \
                   VALUES ($1, $2, $3, $4, NOW_MS)";
        let metadata = serde_json::Value::Object(new.metadata.clone()).to_string();
        let values = [
            new.id.clone().into(),
            new.name.clone().into(),
            new.trigger_word.clone().into(),
            metadata.into(),
        ];
        self.database.writer().execute_raw(self.database.statement(sql, values)).await?;
        self.find(&new.id).await
    }

    /// The data set `id`, unless it was deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn find(&self, id: &str) -> Result<Dataset> {
        let query = Entity::find_by_id(id).filter(Column::DeletedAtMs.is_null());
        let row = query.one(self.database.reader()).await?;
        let row = row.ok_or_else(|| Error::not_found("dataset", id))?;
        let counts = self.counts(Some(id)).await?.remove(id);
        Ok(with_counts(row, counts))
    }

    /// All data sets, newest first.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn list(&self) -> Result<Vec<Dataset>> {
        let query = Entity::find()
            .filter(Column::DeletedAtMs.is_null())
            .order_by_desc(Column::CreatedAtMs)
            .order_by_desc(Column::Id);
        let rows = query.all(self.database.reader()).await?;
        let mut counts = self.counts(None).await?;
        let counted = rows.into_iter().map(|row| {
            let counts = counts.remove(&row.id);
            with_counts(row, counts)
        });
        Ok(counted.collect())
    }

    /// Deletes it for every reader at once; files follow with [`erase_deleted`](Self::erase_deleted).
    ///
    /// # Errors
    /// [`Error::DatasetInUse`], [`Error::NotFound`], or the database refuses.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.find(id).await?;
        let sql =
            format!("UPDATE datasets SET deleted_at_ms = NOW_MS WHERE id = $1 AND {NOT_IN_USE}");
        let statement = self.database.statement(&sql, [id.into()]);
        if self.database.writer().execute_raw(statement).await?.rows_affected() == 0 {
            return Err(Error::DatasetInUse(id.into()));
        }
        Ok(())
    }

    /// Pictures and captions of one data set, or of all.
    async fn counts(&self, id: Option<&str>) -> Result<BTreeMap<String, Counts>> {
        let sql = "SELECT dataset_id, COUNT(*) AS images, COUNT(caption) AS captioned FROM dataset_images \
                   WHERE deleted_at_ms IS NULL AND (dataset_id = $1 OR $1 = '') GROUP BY dataset_id";
        let statement = self.database.statement(sql, [id.unwrap_or_default().into()]);
        let rows = Counts::find_by_statement(statement).all(self.database.reader()).await?;
        Ok(rows.into_iter().map(|row| (row.dataset_id.clone(), row)).collect())
    }
}

fn with_counts(row: Model, counts: Option<Counts>) -> Dataset {
    let count = |n: fn(&Counts) -> i64| counts.as_ref().map_or(0, n).unsigned_abs();
    let (images, captioned) = (count(|c| c.images), count(|c| c.captioned));
    Dataset { row, images, captioned }
}
