//! What streams tell.

use serde::Serialize;
use utoipa::ToSchema;

use super::generation::ProgressNumbers;
use super::training::{SampleView, TrainingNumbers};

/// How far a job is; the `data:` of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ProgressMessage {
    pub job_id: String,
    pub status: String,
    /// load, encode_prompt, denoise or decode_latents; of a training preparing or training.
    pub stage: Option<String>,
    /// Percent of the whole job.
    pub progress: f64,
    pub current_step: u64,
    pub total_steps: u64,
    pub image: u64,
    pub images: u64,
    pub eta_seconds: Option<f64>,
    pub preview_url: Option<String>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// Of a training.
    #[serde(flatten)]
    pub training: Option<TrainingNumbers>,
    /// A sample that was just drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleView>,
    /// The step of a checkpoint that was just written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_step: Option<u64>,
}

impl ProgressMessage {
    /// How far the job `job_id` is; the rest is told where it is known.
    pub(crate) fn new(job_id: String, status: &str, numbers: ProgressNumbers) -> Self {
        let mut message = Self { job_id, status: status.to_owned(), ..Self::default() };
        message.set_numbers(numbers);
        message
    }

    /// The numbers in it.
    pub(crate) fn numbers(&self) -> ProgressNumbers {
        ProgressNumbers {
            percent: self.progress,
            step: self.current_step,
            total_steps: self.total_steps,
            image: self.image,
            images: self.images,
            eta_seconds: self.eta_seconds,
            preview_url: self.preview_url.clone(),
        }
    }

    /// Takes over newer numbers.
    pub(crate) fn set_numbers(&mut self, numbers: ProgressNumbers) {
        self.progress = numbers.percent;
        self.current_step = numbers.step;
        self.total_steps = numbers.total_steps;
        self.image = numbers.image;
        self.images = numbers.images;
        self.eta_seconds = numbers.eta_seconds;
        self.preview_url = numbers.preview_url;
    }
}

/// A message of `/api/events`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ServerEvent {
    /// Empty where it is about no job.
    pub job_id: String,
    /// pending, processing, stage, step, sample, checkpoint, paused, completed, failed, cancelled, favorite, deleted or
    /// restored; queue or models where these have changed; install, with the installation's state, where that has.
    pub event: String,
    /// What belongs to it.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}
