//! Imported and trained LoRA.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder,
};

use crate::blobs::{BlobKey, Blobs};
use crate::database::Database;
use crate::entities::lora_model::{Column, Entity, Model};
use crate::error::{Error, Result};

/// The LoRA of a database.
#[derive(Debug, Clone)]
pub struct LoraModels {
    database: Database,
}

impl LoraModels {
    /// The LoRA of `database`.
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Enters one whose file is stored already; its time is set here.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn enter(&self, mut model: Model) -> Result<Model> {
        model.created_at_ms = self.database.now_ms().await?;
        let row = model.clone().into_active_model().reset_all();
        Entity::insert(row).exec_without_returning(self.database.writer()).await?;
        Ok(model)
    }

    /// The LoRA `id`, unless it was deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn find(&self, id: &str) -> Result<Model> {
        let query = Entity::find_by_id(id).filter(Column::DeletedAtMs.is_null());
        let found = query.one(self.database.reader()).await?;
        found.ok_or_else(|| Error::not_found("model", id))
    }

    /// All LoRA, newest first; of one type, or with a text in name or trigger word.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn list(&self, model_type: Option<&str>, text: Option<&str>) -> Result<Vec<Model>> {
        let mut query = Entity::find()
            .filter(Column::DeletedAtMs.is_null())
            .order_by_desc(Column::CreatedAtMs)
            .order_by_desc(Column::Id);
        if let Some(model_type) = model_type {
            query = query.filter(Column::ModelType.eq(model_type));
        }
        let all = query.all(self.database.reader()).await?;
        let Some(text) = text.map(str::to_lowercase) else { return Ok(all) };
        let has = |words: &str| words.to_lowercase().contains(&text);
        let fits =
            |model: &Model| has(&model.name) || model.trigger_word.as_deref().is_some_and(has);
        Ok(all.into_iter().filter(fits).collect())
    }

    /// Changes what the user says about it.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database refuses.
    pub async fn describe(&self, id: &str, change: Description) -> Result<Model> {
        let sql = "UPDATE lora_models SET name = COALESCE($2, name), \
                   trigger_word = COALESCE($3, trigger_word), notes = COALESCE($4, notes) \
                   WHERE id = $1 AND deleted_at_ms IS NULL";
        let values =
            [id.into(), change.name.into(), change.trigger_word.into(), change.notes.into()];
        self.database.writer().execute_raw(self.database.statement(sql, values)).await?;
        self.find(id).await
    }

    /// Deletes it for every reader at once; the file follows with [`erase_deleted`](Self::erase_deleted).
    ///
    /// # Errors
    /// [`Error::ModelInUse`], [`Error::NotFound`], or the database refuses.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.find(id).await?;
        let sql = "UPDATE lora_models SET deleted_at_ms = NOW_MS WHERE id = $1 AND NOT EXISTS (\
                   SELECT 1 FROM generation_loras l JOIN jobs j ON j.id = l.generation_id \
                   WHERE l.model_id = $1 AND j.status IN ('queued', 'running'))";
        let statement = self.database.statement(sql, [id.into()]);
        if self.database.writer().execute_raw(statement).await?.rows_affected() > 0 {
            return Ok(());
        }
        Err(Error::ModelInUse(id.into()))
    }

    /// Erases the files and rows of what was deleted; how many.
    ///
    /// # Errors
    /// When the database or the blobs refuse; the rest is erased another time.
    pub async fn erase_deleted(&self, blobs: &Blobs) -> Result<usize> {
        let query = Entity::find().filter(Column::DeletedAtMs.is_not_null());
        let deleted = query.all(self.database.reader()).await?;
        for model in &deleted {
            blobs.delete_all(&BlobKey::parse(&format!("models/{}", model.id))?).await?;
            Entity::delete_by_id(&model.id).exec(self.database.writer()).await?;
        }
        Ok(deleted.len())
    }
}

/// What a user says about a LoRA; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// For people.
    pub name: Option<String>,
    /// The word that calls it.
    pub trigger_word: Option<String>,
    /// The user's own words.
    pub notes: Option<String>,
}
