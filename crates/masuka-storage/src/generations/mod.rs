//! Pictures as users asked for them: what was asked, the job that makes them, and what came out.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::database::Database;
use crate::entities::output;
use crate::error::{Error, Result};
use crate::events::{self, Told};
use crate::queue::{JobStatus, NewJob, Queue};

mod read; // one of them, whole
mod list; // newest first, filtered, page by page
mod delete; // gone at once, erased later
mod group_commit; // many requests, one synchronisation of the disk

pub use delete::RESTORE_WITHIN_MS;
pub use group_commit::GroupCommit;
pub use list::{Cursor, Filter};

/// Every resolved value of a request for pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerationSpec {
    /// What should be seen.
    pub prompt: String,
    /// What should not be seen.
    pub negative_prompt: Option<String>,
    /// Scale of true classifier-free guidance; 1 is none.
    pub true_cfg_scale: f64,
    /// `euler` or `heun`.
    pub sampler: String,
    /// The adapters.
    pub loras: Vec<LoraChoice>,
    /// How many pictures.
    pub num_images: u64,
    /// Sampler steps.
    pub num_inference_steps: u64,
    /// Embedded guidance.
    pub guidance_scale: f64,
    /// Pixels from left to right.
    pub width: u64,
    /// Pixels from top to bottom.
    pub height: u64,
    /// Picture i starts from noise of seed + i.
    pub seed: u64,
    /// The base model.
    pub base_model: String,
    /// Extras of the model's family.
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// A LoRA and how strongly it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraChoice {
    /// Its id.
    pub model_id: String,
    /// −2…2.
    pub weight: f64,
}

/// What the engine told about a finished generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationReport {
    /// Tokens of the prompt that T5 saw.
    pub t5_tokens: u64,
    /// Tokens of the prompt that CLIP saw.
    pub clip_tokens: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Seconds by stage.
    pub timings: BTreeMap<String, f64>,
}

/// A request for pictures, to be stored and queued.
#[derive(Debug, Clone)]
pub struct NewGeneration {
    /// What is asked for.
    pub spec: GenerationSpec,
    /// Its job; both have one id.
    pub job: NewJob,
}

/// A generation with how far its job is and its pictures, all of one moment.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The id of its job, too.
    pub id: String,
    /// What should be seen.
    pub prompt: String,
    /// What should not be seen.
    pub negative_prompt: Option<String>,
    /// Every resolved value, as JSON of [`GenerationSpec`].
    parameters: String,
    /// What the engine told, as JSON of [`GenerationReport`].
    report: Option<String>,
    /// Whether the user likes it.
    pub favorite: bool,
    /// When it was asked for.
    pub created_at_ms: i64,
    /// How far its job is.
    pub status: JobStatus,
    /// How many jobs stand before it; nothing unless it waits.
    pub queue_position: Option<u64>,
    /// How far a job is that is not completed, as JSON.
    pub progress: Option<String>,
    /// Why it failed, for programs.
    pub error_code: Option<String>,
    /// Why it failed, for people.
    pub error_message: Option<String>,
    /// When it was first claimed.
    pub started_at_ms: Option<i64>,
    /// When it reached its final state.
    pub finished_at_ms: Option<i64>,
    /// −10…10, higher first.
    pub priority: i64,
    /// How many workers died of it.
    pub attempts: i64,
    /// The pictures, in order.
    pub outputs: Vec<output::Model>,
}

impl Generation {
    /// What was asked for, resolved.
    ///
    /// # Errors
    /// When the row was written by another version.
    pub fn spec(&self) -> Result<GenerationSpec> {
        serde_json::from_str(&self.parameters).map_err(|e| Error::corrupt("parameters", e))
    }

    /// What the engine told, once it is finished.
    ///
    /// # Errors
    /// When the row was written by another version.
    pub fn report(&self) -> Result<Option<GenerationReport>> {
        let report = self.report.as_deref().map(serde_json::from_str).transpose();
        report.map_err(|e| Error::corrupt("report", e))
    }
}

/// The generations of a database.
#[derive(Debug, Clone)]
pub struct Generations {
    database: Database,
    queue: Queue,
}

impl Generations {
    /// The generations of `database`.
    pub fn new(database: Database) -> Self {
        Self { queue: Queue::new(database.clone()), database }
    }

    /// Stores and queues all of `new` in one transaction; each may be refused for itself.
    ///
    /// # Errors
    /// When the database refuses; then none is stored.
    pub async fn create_all(&self, new: &[NewGeneration], limit: u64) -> Result<Vec<Result<()>>> {
        let transaction = self.database.begin().await?;
        let mut results = Vec::with_capacity(new.len());
        for generation in new {
            results.push(match self.create(&transaction, generation, limit).await {
                Err(error @ Error::Database(_)) => return Err(error),
                other => other,
            });
        }
        transaction.commit().await?;
        Ok(results)
    }

    async fn create(
        &self,
        transaction: &DatabaseTransaction,
        new: &NewGeneration,
        limit: u64,
    ) -> Result<()> {
        self.queue.enqueue(transaction, &new.job, limit).await?;
        let spec = &new.spec;
        let parameters =
            serde_json::to_string(spec).map_err(|e| Error::corrupt("parameters", e))?;
        let sql = "INSERT INTO generations (id, prompt, negative_prompt, base_model, parameters, created_at_ms) \
                   SELECT id, $2, $3, $4, $5, created_at_ms FROM jobs WHERE id = $1";
        let values = [
            new.job.id.clone().into(),
            spec.prompt.clone().into(),
            spec.negative_prompt.clone().into(),
            spec.base_model.clone().into(),
            parameters.into(),
        ];
        transaction.execute_raw(self.database.statement(sql, values)).await?;
        for lora in &spec.loras {
            let sql = "INSERT INTO generation_loras (generation_id, model_id) VALUES ($1, $2) \
                       ON CONFLICT DO NOTHING";
            let values = [new.job.id.clone().into(), lora.model_id.clone().into()];
            transaction.execute_raw(self.database.statement(sql, values)).await?;
        }
        Ok(())
    }

    /// Marks it as liked or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the database refuses.
    pub async fn set_favorite(&self, id: &str, favorite: bool) -> Result<()> {
        let sql = "UPDATE generations SET favorite = $2 WHERE id = $1 AND deleted_at_ms IS NULL";
        let values: [Value; 2] = [id.into(), favorite.into()];
        let change = self.database.statement(sql, values);
        let payload = json!({ "favorite": favorite });
        let told = Told { what: "job", id, kind: "favorite", payload };
        events::change(&self.database, change, told).await
    }
}
