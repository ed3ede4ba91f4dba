//! Trainings, and how far they are.

use masuka_storage::blobs::BlobKey;
use masuka_storage::entities::{training_checkpoint, training_loss};
use masuka_storage::queue::JobStatus;
use masuka_storage::trainings::Training;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use utoipa::ToSchema;

use super::generation::ProgressNumbers;
use crate::app::Links;
use crate::error::ApiResult;
use crate::times::rfc3339;

/// A request for a training. What is not given suits the base model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingBody {
    /// The adapter's name.
    #[schema(example = "My dog")]
    pub name: String,
    /// flux_image [default]
    pub model_type: Option<String>,
    /// What it learns from.
    pub dataset_id: String,
    /// [default: the configured one]
    pub base_model: Option<String>,
    /// The word that the captions call the style or subject by [default: the dataset's]
    #[schema(example = "TOK")]
    pub trigger_word: Option<String>,
    /// Rows of the adapter's matrices, 1 to 1024.
    pub network_dim: Option<i64>,
    /// The adapter's effect is scaled by alpha / dim.
    pub network_alpha: Option<f64>,
    /// Optimiser steps.
    pub steps: Option<i64>,
    pub learning_rate: Option<f64>,
    /// adamw [default]
    pub optimizer: Option<String>,
    /// How the learning rate moves after the warm-up: constant or cosine.
    pub lr_scheduler: Option<String>,
    /// Steps of a rising learning rate.
    pub warmup_steps: Option<i64>,
    /// Pictures of a forward pass.
    pub batch_size: Option<i64>,
    /// Forward passes of a step.
    pub gradient_accumulation: Option<i64>,
    /// Side of a square picture in pixels; other shapes get as many pixels.
    pub resolution: Option<i64>,
    /// Which layers are adapted: attention or all_linear.
    pub target_modules: Option<String>,
    /// How often a caption is left out, 0 to 1.
    pub caption_dropout: Option<f64>,
    /// Where all randomness starts.
    pub seed: Option<i64>,
    /// Steps between checkpoints [default: 100]
    pub save_every: Option<i64>,
    /// Steps between samples, 0 for none [default: a fifth of the steps]
    pub sample_every: Option<i64>,
    /// What the samples show [default: the first four captions]
    pub sample_prompts: Option<Vec<String>>,
    /// beta1, beta2, eps, weight_decay, max_grad_norm, ema_decay, guidance, prior_pictures, dtype.
    #[schema(value_type = Option<Object>)]
    pub config: Option<Map<String, Json>>,
    /// −10…10, higher first.
    pub priority: Option<i64>,
}

/// A training that was queued.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrainingCreatedView {
    pub session_id: String,
    #[schema(example = "pending")]
    pub status: &'static str,
    pub task_id: String,
}

/// A training.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrainingView {
    session_id: String,
    name: String,
    model_type: String,
    /// pending, preparing, training, paused, completed, failed or cancelled.
    status: &'static str,
    progress: TrainingProgress,
    current_step: u64,
    total_steps: u64,
    current_loss: Option<f64>,
    smoothed_loss: Option<f64>,
    learning_rate: Option<f64>,
    steps_per_second: Option<f64>,
    eta_seconds: Option<f64>,
    error_code: Option<String>,
    error_message: Option<String>,
    samples: Vec<SampleView>,
    checkpoints: Vec<CheckpointView>,
    /// The finished adapter.
    model_id: Option<String>,
    dataset_id: String,
    base_model: String,
    trigger_word: Option<String>,
    /// Every resolved value.
    #[schema(value_type = Object)]
    parameters: Json,
    /// How many jobs stand before it; null unless it is pending.
    queue_position: Option<u64>,
    priority: i64,
    /// How many workers died of it since its last checkpoint.
    attempts: i64,
    started_at: Option<String>,
    completed_at: Option<String>,
    created_at: String,
}

/// How far a training is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct TrainingProgress {
    /// Of the steps.
    pub percent: f64,
    pub step: u64,
    pub total_steps: u64,
    /// Before the first step: priors or encode.
    pub preparing: Option<String>,
    /// Pieces of the preparation that are ready.
    pub prepared: u64,
    pub to_prepare: u64,
    pub eta_seconds: Option<f64>,
    #[serde(flatten)]
    pub numbers: TrainingNumbers,
    /// Passes over the pictures that were begun.
    pub epoch: u64,
    /// Whether steps have begun.
    #[serde(skip_serializing)]
    pub training: bool,
}

/// What a step tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct TrainingNumbers {
    /// Of the step.
    pub current_loss: Option<f64>,
    /// With the noise of single steps taken out.
    pub smoothed_loss: Option<f64>,
    pub learning_rate: Option<f64>,
    pub steps_per_second: Option<f64>,
}

/// A picture that was drawn meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct SampleView {
    step: u64,
    /// The place of its prompt, from 0.
    index: u64,
    prompt: String,
    /// Valid for at least an hour.
    url: String,
}

/// From where a training could go on.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CheckpointView {
    step: i64,
    file_size_bytes: i64,
    created_at: String,
}

/// The loss of a step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LossView {
    step: i64,
    loss: f64,
    smoothed_loss: f64,
    learning_rate: f64,
}

impl From<training_loss::Model> for LossView {
    fn from(row: training_loss::Model) -> Self {
        let training_loss::Model { step, loss, smoothed_loss, learning_rate, .. } = row;
        Self { step, loss, smoothed_loss, learning_rate }
    }
}

impl From<training_checkpoint::Model> for CheckpointView {
    fn from(row: training_checkpoint::Model) -> Self {
        Self { step: row.step, file_size_bytes: row.bytes, created_at: rfc3339(row.created_at_ms) }
    }
}

impl SampleView {
    /// A sample as an event tells of it.
    pub(crate) fn from_event(sample: &Json, links: &Links) -> Option<Self> {
        let key = BlobKey::parse(sample["blob_key"].as_str()?).ok()?;
        Some(Self {
            step: sample["step"].as_u64()?,
            index: sample["index"].as_u64()?,
            prompt: sample["prompt"].as_str()?.to_owned(),
            url: links.file(&key),
        })
    }
}

impl TrainingView {
    /// `found` for a client that reaches the server by `links`.
    pub(crate) fn new(found: Training, position: Option<u64>, links: &Links) -> ApiResult<Self> {
        let (spec, progress) = (found.spec()?, training_progress(&found)?);
        let status = training_status(found.job.status()?, progress.training);
        let parameters = json!({
            "recipe": spec.recipe,
            "save_every": spec.save_every,
            "sample_every": spec.sample_every,
            "sample_prompts": spec.sample_prompts,
            "dataset": spec.dataset_name,
            "memory_bytes": spec.memory_bytes,
        });
        let Training { row, job, checkpoints, samples, .. } = found;
        let sample = |row: masuka_storage::entities::training_sample::Model| {
            let url = links.file(&BlobKey::parse(&row.blob_key)?);
            let (step, index) = (row.step.unsigned_abs(), row.position.unsigned_abs());
            Ok(SampleView { step, index, prompt: row.prompt, url })
        };
        let TrainingNumbers { current_loss, smoothed_loss, learning_rate, steps_per_second } =
            progress.numbers;
        Ok(Self {
            session_id: row.id,
            name: row.name,
            model_type: row.model_type,
            status,
            current_step: progress.step,
            total_steps: progress.total_steps,
            current_loss,
            smoothed_loss,
            learning_rate,
            steps_per_second,
            eta_seconds: progress.eta_seconds,
            progress,
            error_code: job.error_code,
            error_message: job.error_message,
            samples: samples.into_iter().map(sample).collect::<ApiResult<_>>()?,
            checkpoints: checkpoints.into_iter().map(Into::into).collect(),
            model_id: row.model_id,
            dataset_id: row.dataset_id,
            base_model: row.base_model,
            trigger_word: spec.trigger_word,
            parameters,
            queue_position: position,
            priority: job.priority,
            attempts: job.attempts,
            started_at: job.started_at_ms.map(rfc3339),
            completed_at: job.finished_at_ms.map(rfc3339),
            created_at: rfc3339(row.created_at_ms),
        })
    }
}

/// The status as trainings call it.
pub(crate) fn training_status(status: JobStatus, steps_have_begun: bool) -> &'static str {
    match status {
        JobStatus::Running if steps_have_begun => "training",
        JobStatus::Running => "preparing",
        other => other.public_name(),
    }
}

/// What the row says of it; of what does not run, where it would go on, and of what is over, its end.
pub(crate) fn training_progress(found: &Training) -> ApiResult<TrainingProgress> {
    let (status, total) = (found.job.status()?, found.spec()?.steps);
    let kept = found.job.progress.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let mut progress: TrainingProgress = kept.unwrap_or_default();
    progress.total_steps = total;
    if !progress.training {
        let last = found.checkpoints.last().map_or(0, |checkpoint| checkpoint.step.unsigned_abs());
        progress.step = last;
    }
    if status == JobStatus::Completed {
        progress.step = total;
    }
    progress.percent = (1000.0 * progress.step as f64 / total.max(1) as f64).round() / 10.0;
    if let Some(last) = &found.last_loss {
        let numbers = &mut progress.numbers;
        numbers.current_loss = numbers.current_loss.or(Some(last.loss));
        numbers.smoothed_loss = numbers.smoothed_loss.or(Some(last.smoothed_loss));
        numbers.learning_rate = numbers.learning_rate.or(Some(last.learning_rate));
    }
    if status != JobStatus::Running {
        progress.eta_seconds = (status == JobStatus::Completed).then_some(0.0);
        progress.numbers.steps_per_second = None;
    }
    Ok(progress)
}

impl From<&TrainingProgress> for ProgressNumbers {
    fn from(progress: &TrainingProgress) -> Self {
        Self {
            step: progress.step,
            total_steps: progress.total_steps,
            percent: progress.percent,
            eta_seconds: progress.eta_seconds,
            ..Self::default()
        }
    }
}
