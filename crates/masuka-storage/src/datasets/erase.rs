//! Files and rows of what was deleted: files first, rows last, so that an erasure that was cut short is finished by the
//! next.

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use super::Datasets;
use crate::blobs::{BlobKey, Blobs};
use crate::entities::{dataset, dataset_image};
use crate::error::Result;

/// How many pictures are erased at once.
const AT_ONCE: u64 = 100;

impl Datasets {
    /// Erases what was deleted; how many data sets and pictures.
    ///
    /// # Errors
    /// When the database or the blobs refuse; the rest is erased another time.
    pub async fn erase_deleted(&self, blobs: &Blobs) -> Result<usize> {
        let images = dataset_image::Entity::find()
            .filter(dataset_image::Column::DeletedAtMs.is_not_null())
            .limit(AT_ONCE)
            .all(self.database.reader())
            .await?;
        for image in &images {
            for key in [&image.blob_key, &image.thumbnail_key] {
                blobs.delete(&BlobKey::parse(key)?).await?;
            }
            dataset_image::Entity::delete_by_id(&image.id).exec(self.database.writer()).await?;
        }
        let datasets = dataset::Entity::find()
            .filter(dataset::Column::DeletedAtMs.is_not_null())
            .all(self.database.reader())
            .await?;
        for dataset in &datasets {
            blobs.delete_all(&BlobKey::parse(&format!("datasets/{}", dataset.id))?).await?;
            self.erase_rows(&dataset.id).await?;
        }
        Ok(images.len() + datasets.len())
    }

    async fn erase_rows(&self, id: &str) -> Result<()> {
        let transaction = self.database.begin().await?;
        for sql in [
            "DELETE FROM dataset_images WHERE dataset_id = $1",
            "DELETE FROM datasets WHERE id = $1",
        ] {
            transaction.execute_raw(self.database.statement(sql, [id.into()])).await?;
        }
        Ok(transaction.commit().await?)
    }
}
