//! Pictures of a data set: added once, captioned, deleted.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value,
};

use super::{Datasets, NOT_IN_USE};
use crate::entities::dataset_image::{Column, Entity, Model};
use crate::error::{Error, Result};

/// What became of a picture that was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It belongs to the data set.
    New,
    /// The data set has it already.
    Known(Box<Model>),
}

impl Datasets {
    /// Enters a picture whose files are stored already; its time is set here.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the data set was deleted meanwhile, or the database refuses.
    pub async fn add_image(&self, image: &Model) -> Result<Added> {
        let sql = "INSERT INTO dataset_images (id, dataset_id, file_name, blob_key, thumbnail_key, width, height, \
                       bytes, pixel_hash, caption, created_at_ms) \
                   SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NOW_MS \
                   WHERE EXISTS (SELECT 1 FROM datasets WHERE id = $2 AND deleted_at_ms IS NULL) \
                   ON CONFLICT (dataset_id, pixel_hash) WHERE deleted_at_ms IS NULL DO NOTHING";
        let values: [Value; 10] = [
            image.id.clone().into(),
            image.dataset_id.clone().into(),
            image.file_name.clone().into(),
            image.blob_key.clone().into(),
            image.thumbnail_key.clone().into(),
            image.width.into(),
            image.height.into(),
            image.bytes.into(),
            image.pixel_hash.clone().into(),
            image.caption.clone().into(),
        ];
        let statement = self.database.statement(sql, values);
        if self.database.writer().execute_raw(statement).await?.rows_affected() > 0 {
            return Ok(Added::New);
        }
        match self.image_with(&image.dataset_id, &image.pixel_hash).await? {
            Some(known) => Ok(Added::Known(known.into())),
            None => Err(Error::not_found("dataset", &image.dataset_id)),
        }
    }

    /// The picture of a data set with these pixels.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn image_with(&self, dataset_id: &str, pixel_hash: &str) -> Result<Option<Model>> {
        let query = Entity::find()
            .filter(Column::DatasetId.eq(dataset_id))
            .filter(Column::PixelHash.eq(pixel_hash))
            .filter(Column::DeletedAtMs.is_null());
        Ok(query.one(self.database.reader()).await?)
    }

    /// The pictures of a data set, in the order of their arrival.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn images(&self, dataset_id: &str) -> Result<Vec<Model>> {
        self.find(dataset_id).await?;
        let query = Entity::find()
            .filter(Column::DatasetId.eq(dataset_id))
            .filter(Column::DeletedAtMs.is_null())
            .order_by_asc(Column::Id);
        Ok(query.all(self.database.reader()).await?)
    }

    /// One picture of a data set.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn image(&self, dataset_id: &str, id: &str) -> Result<Model> {
        self.find(dataset_id).await?;
        let query = Entity::find_by_id(id)
            .filter(Column::DatasetId.eq(dataset_id))
            .filter(Column::DeletedAtMs.is_null());
        let found = query.one(self.database.reader()).await?;
        found.ok_or_else(|| Error::not_found("image", id))
    }

    /// Captions pictures, all or none; a caption of `None` is taken away.
    ///
    /// # Errors
    /// [`Error::NotFound`] when one of them is not there, or the database refuses.
    pub async fn caption(
        &self,
        dataset_id: &str,
        captions: &[(String, Option<String>)],
    ) -> Result<()> {
        let transaction = self.database.begin().await?;
        let sql = "UPDATE dataset_images SET caption = $3 \
                   WHERE id = $1 AND dataset_id = $2 AND deleted_at_ms IS NULL";
        for (id, caption) in captions {
            let values: [Value; 3] = [id.clone().into(), dataset_id.into(), caption.clone().into()];
            let changed = transaction.execute_raw(self.database.statement(sql, values)).await?;
            if changed.rows_affected() == 0 {
                return Err(Error::not_found("image", id));
            }
        }
        Ok(transaction.commit().await?)
    }

    /// The newest picture of a data set whose file is called `stem` but for the ending.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn image_of_stem(&self, dataset_id: &str, stem: &str) -> Result<Option<Model>> {
        let query = Entity::find()
            .filter(Column::DatasetId.eq(dataset_id))
            .filter(Column::DeletedAtMs.is_null())
            .filter(Column::FileName.starts_with(stem))
            .order_by_desc(Column::Id)
            .limit(1000);
        let named = query.all(self.database.reader()).await?;
        Ok(named.into_iter().find(|image| stem_of(&image.file_name) == stem))
    }

    /// Deletes a picture for every reader at once; files follow with [`erase_deleted`](Self::erase_deleted).
    ///
    /// # Errors
    /// [`Error::DatasetInUse`], [`Error::NotFound`], or the database refuses.
    pub async fn delete_image(&self, dataset_id: &str, id: &str) -> Result<()> {
        self.image(dataset_id, id).await?;
        let sql = format!(
            "UPDATE dataset_images SET deleted_at_ms = NOW_MS \
             WHERE dataset_id = $1 AND id = $2 AND deleted_at_ms IS NULL AND {NOT_IN_USE}"
        );
        let statement = self.database.statement(&sql, [dataset_id.into(), id.into()]);
        if self.database.writer().execute_raw(statement).await?.rows_affected() == 0 {
            return Err(Error::DatasetInUse(dataset_id.into()));
        }
        Ok(())
    }
}

/// A file name without its ending.
fn stem_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
