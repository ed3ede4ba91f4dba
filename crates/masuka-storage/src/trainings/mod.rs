//! Trainings as users asked for them: what was asked, the job that does it, and what came out so far.

mod control; // pause, resume, save
mod running; // what a worker writes down, under its lease
mod delete; // gone at once, erased later

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::database::Database;
use crate::entities::{job, training_checkpoint, training_loss, training_sample, training_session};
use crate::error::{Error, Result};
use crate::queue::{NewJob, Queue};

/// Every resolved value of a request for a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSpec {
    /// The word that will call what is learned.
    pub trigger_word: Option<String>,
    /// What decides the adapter, in the words of the engine.
    pub recipe: Json,
    /// Optimiser steps.
    pub steps: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Steps between samples; 0 for none.
    pub sample_every: u64,
    /// What the samples show.
    pub sample_prompts: Vec<String>,
    /// The name of the dataset.
    pub dataset_name: String,
    /// What it takes at most, in bytes.
    pub memory_bytes: u64,
}

/// A picture to be trained on, as it was when the training was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingPicture {
    /// As the user calls it.
    pub file_name: String,
    /// The file.
    pub blob_key: String,
    /// The same for equal pixels.
    pub pixel_hash: String,
    /// Pixels from left to right.
    pub width: u64,
    /// Pixels from top to bottom.
    pub height: u64,
    /// What is said of it.
    pub caption: String,
}

/// A request for a training, to be stored and queued.
#[derive(Debug, Clone)]
pub struct NewTraining {
    /// For people; the adapter's name.
    pub name: String,
    /// `flux_image`.
    pub model_type: String,
    /// What it learns from.
    pub dataset_id: String,
    /// What is asked for.
    pub spec: TrainingSpec,
    /// What it learns from, in detail.
    pub pictures: Vec<TrainingPicture>,
    /// Its job; both have one id.
    pub job: NewJob,
}

/// A training with its job and what came out so far.
#[derive(Debug, Clone)]
pub struct Training {
    /// What was asked for.
    pub row: training_session::Model,
    /// How far it is.
    pub job: job::Model,
    /// From where it could go on, the latest last.
    pub checkpoints: Vec<training_checkpoint::Model>,
    /// Pictures drawn meanwhile, in order.
    pub samples: Vec<training_sample::Model>,
    /// The last step of which the loss is known.
    pub last_loss: Option<training_loss::Model>,
}

impl Training {
    /// What was asked for, resolved.
    ///
    /// # Errors
    /// When the row was written by another version.
    pub fn spec(&self) -> Result<TrainingSpec> {
        let parameters = &self.row.parameters;
        serde_json::from_str(parameters).map_err(|e| Error::corrupt("parameters", e))
    }

    /// What it learns from.
    ///
    /// # Errors
    /// When the row was written by another version.
    pub fn pictures(&self) -> Result<Vec<TrainingPicture>> {
        serde_json::from_str(&self.row.pictures).map_err(|e| Error::corrupt("pictures", e))
    }
}

/// The trainings of a database.
#[derive(Debug, Clone)]
pub struct Trainings {
    database: Database,
    queue: Queue,
}

impl Trainings {
    /// The trainings of `database`.
    pub fn new(database: Database) -> Self {
        let queue = Queue::new(database.clone());
        Self { database, queue }
    }

    /// Stores and queues `new`; at most `limit` jobs may wait.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::NotFound`] when the dataset is gone, or the database refuses.
    pub async fn create(&self, new: &NewTraining, limit: u64) -> Result<()> {
        let json =
            |value: serde_json::Result<String>| value.map_err(|e| Error::corrupt("parameters", e));
        let transaction = self.database.begin().await?;
        self.queue.enqueue(&transaction, &new.job, limit).await?;
        let sql = "INSERT INTO training_sessions \
                       (id, name, model_type, dataset_id, base_model, parameters, pictures, created_at_ms) \
                   SELECT id, $2, $3, $4, $5, $6, $7, created_at_ms FROM jobs WHERE id = $1 \
                   AND EXISTS (SELECT 1 FROM datasets WHERE id = $4 AND deleted_at_ms IS NULL)";
        let values = [
            new.job.id.clone().into(),
            new.name.clone().into(),
            new.model_type.clone().into(),
            new.dataset_id.clone().into(),
            new.job.base_model.clone().into(),
            json(serde_json::to_string(&new.spec))?.into(),
            json(serde_json::to_string(&new.pictures))?.into(),
        ];
        let stored = transaction.execute_raw(self.database.statement(sql, values)).await?;
        if stored.rows_affected() == 0 {
            return Err(Error::not_found("dataset", &new.dataset_id));
        }
        Ok(transaction.commit().await?)
    }

    /// The training `id`, unless it was deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database is gone.
    pub async fn find(&self, id: &str) -> Result<Training> {
        let query = training_session::Entity::find_by_id(id)
            .filter(training_session::Column::DeletedAtMs.is_null());
        let row = query.one(self.database.reader()).await?;
        self.with_details(row.ok_or_else(|| Error::not_found("training", id))?).await
    }

    /// The newest `limit` trainings.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn list(&self, limit: u64) -> Result<Vec<Training>> {
        let rows = training_session::Entity::find()
            .filter(training_session::Column::DeletedAtMs.is_null())
            .order_by_desc(training_session::Column::CreatedAtMs)
            .order_by_desc(training_session::Column::Id)
            .limit(limit)
            .all(self.database.reader())
            .await?;
        let mut trainings = Vec::with_capacity(rows.len());
        for row in rows {
            trainings.push(self.with_details(row).await?);
        }
        Ok(trainings)
    }

    /// The loss of every step so far.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn losses(&self, id: &str) -> Result<Vec<training_loss::Model>> {
        let query = training_loss::Entity::find()
            .filter(training_loss::Column::SessionId.eq(id))
            .order_by_asc(training_loss::Column::Step);
        Ok(query.all(self.database.reader()).await?)
    }

    async fn with_details(&self, row: training_session::Model) -> Result<Training> {
        let (id, reader) = (row.id.as_str(), self.database.reader());
        // First, so that what a job that is over has published is there in what is read afterwards.
        let job = self.queue.find(id).await?;
        let again = training_session::Entity::find_by_id(id).one(reader).await?;
        let model_id = again.and_then(|row| row.model_id);
        let checkpoints = training_checkpoint::Entity::find()
            .filter(training_checkpoint::Column::SessionId.eq(id))
            .order_by_asc(training_checkpoint::Column::Step)
            .all(reader)
            .await?;
        let samples = training_sample::Entity::find()
            .filter(training_sample::Column::SessionId.eq(id))
            .order_by_asc(training_sample::Column::Step)
            .order_by_asc(training_sample::Column::Position)
            .all(reader)
            .await?;
        let last_loss = training_loss::Entity::find()
            .filter(training_loss::Column::SessionId.eq(id))
            .order_by_desc(training_loss::Column::Step)
            .one(reader)
            .await?;
        let row = training_session::Model { model_id, ..row };
        Ok(Training { row, job, checkpoints, samples, last_loss })
    }
}
