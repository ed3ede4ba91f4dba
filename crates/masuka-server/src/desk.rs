//! Questions that only the engine can answer, as plain data. The binary wires the answers in.

use std::path::{Path, PathBuf};

use masuka_storage::base_models::NewBaseModel;
use masuka_storage::entities::base_model;
use serde::Serialize;
use utoipa::ToSchema;

/// Answers; called from threads that may wait.
pub trait EngineDesk: Send + Sync {
    /// How a prompt is split for a base model.
    ///
    /// # Errors
    /// A message for people.
    fn count_tokens(&self, model: &base_model::Model, prompt: &str) -> Result<TokenCounts, String>;

    /// The base model of `files`, as it would be entered under `id`.
    ///
    /// # Errors
    /// Why it cannot be used, for people.
    fn examine_base_model(&self, files: &BaseModelFiles, id: &str) -> Result<NewBaseModel, String>;

    /// Lets go of the files of a base model that is off the list.
    fn close_base_model(&self, model: &base_model::Model);

    /// What a LoRA file holds, and how it fits a base model.
    ///
    /// # Errors
    /// Why it cannot be used, for people.
    fn examine_lora(&self, file: &Path, model: &base_model::Model) -> Result<LoraFacts, String>;

    /// A picture that is to be trained on, whatever its file is called.
    ///
    /// # Errors
    /// Why it cannot be used, as a verb phrase.
    fn examine_picture(&self, file: &Path) -> Result<PictureFacts, String>;

    /// The size at which each of `pictures` would be trained.
    fn buckets(&self, sizes: &TrainingSizes, pictures: &[PictureSize]) -> Vec<Option<PictureSize>>;

    /// Writes the LoRA of `file` in the names of `format` to `into`.
    ///
    /// # Errors
    /// Why it cannot be written so, for people.
    fn export_lora(&self, file: &Path, format: &str, into: &Path) -> Result<(), String>;

    /// What a training would be, with what suits the base model where nothing is wished.
    ///
    /// # Errors
    /// Which wish cannot be granted, and why.
    fn plan_training(
        &self,
        model: &base_model::Model,
        wishes: &TrainingWishes,
    ) -> Result<TrainingPlan, Refusal>;

    /// Devices, memory and kernels of this machine.
    fn machine(&self) -> serde_json::Value;
}

/// Where a base model lies on this machine.
#[derive(Debug, Clone)]
pub struct BaseModelFiles {
    /// A folder in the layout of diffusers, or a file.
    pub path: PathBuf,
    /// For people, where it is not the name of the folder or file.
    pub name: Option<String>,
    /// Where the parts are that `path` lacks, as the source of another base model.
    pub parts: Option<String>,
}

/// A picture that can be trained on.
#[derive(Debug, Clone)]
pub struct PictureFacts {
    /// Its size, upright.
    pub size: PictureSize,
    /// The same for pictures of equal pixels.
    pub pixel_hash: String,
    /// The usual ending of its file: `png`, `jpg` or `webp`.
    pub extension: &'static str,
    /// The picture as PNG, if its own file is not upright and opaque.
    pub upright: Option<Vec<u8>>,
    /// The picture in small, as JPEG.
    pub thumbnail: Vec<u8>,
}

/// The size of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct PictureSize {
    /// Pixels from left to right.
    pub width: u64,
    /// Pixels from top to bottom.
    pub height: u64,
}

/// What the sizes of a training follow from.
#[derive(Debug, Clone, Copy)]
pub struct TrainingSizes {
    /// The side of a square picture.
    pub resolution: u64,
    /// The pixels of which sides are multiples.
    pub multiple: u64,
}

/// What a user wants of a training.
#[derive(Debug, Clone)]
pub struct TrainingWishes {
    /// The word of the captions that the style or subject goes by.
    pub trigger: Option<String>,
    /// Rows of the adapter's matrices.
    pub rank: Option<u64>,
    /// The adapter's effect is scaled by alpha / rank.
    pub alpha: Option<f64>,
    /// Optimiser steps.
    pub steps: Option<u64>,
    /// Its largest value.
    pub learning_rate: Option<f64>,
    /// `constant` or `cosine`.
    pub lr_scheduler: Option<String>,
    /// Steps of a rising learning rate.
    pub warmup_steps: Option<u64>,
    /// Pictures of a forward pass.
    pub batch_size: Option<u64>,
    /// Forward passes of a step.
    pub gradient_accumulation: Option<u64>,
    /// The side of a square picture.
    pub resolution: Option<u64>,
    /// `attention` or `all_linear`.
    pub target_modules: Option<String>,
    /// How often a caption is left out, 0…1.
    pub caption_dropout: Option<f64>,
    /// Where all randomness starts.
    pub seed: Option<u64>,
    /// Whether samples are drawn meanwhile.
    pub draws_samples: bool,
    /// What is rarely wished.
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// A training that can be done.
#[derive(Debug, Clone)]
pub struct TrainingPlan {
    /// What the worker's engine will read.
    pub recipe: serde_json::Value,
    /// Optimiser steps.
    pub steps: u64,
    /// What it takes at most, in bytes.
    pub memory_bytes: u64,
}

/// A wish that cannot be granted.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its name in the HTTP interface.
    pub field: String,
    /// Field, value and rule, for people.
    pub message: String,
}

/// How a prompt is split.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenCounts {
    /// For T5, which reads the whole prompt.
    pub t5: TokenCount,
    /// For CLIP, which gives the overall tone.
    pub clip: TokenCount,
}

/// How a prompt is split for one text encoder.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TokenCount {
    /// Tokens that are used, marks included.
    pub tokens: u64,
    /// The most it takes.
    pub max_tokens: u64,
    /// Tokens that do not fit.
    pub cut_tokens: u64,
    /// What does not fit, in the prompt's own words.
    pub cut: Option<String>,
}

/// What a LoRA file holds.
#[derive(Debug, Clone)]
pub struct LoraFacts {
    /// The convention of its tensor names.
    pub format: String,
    /// Rank of its updates, if all have the same.
    pub rank: Option<u64>,
    /// Alpha of its updates, if all have the same.
    pub alpha: Option<f64>,
    /// The word that calls it, if the file says.
    pub trigger_word: Option<String>,
    /// The file's own header.
    pub header: serde_json::Value,
    /// How many tensors take effect, are known to have none, and are unknown.
    pub tensors: TensorCounts,
    /// Of the unknown, the first.
    pub first_unknown: Option<String>,
}

/// What becomes of the tensors of a LoRA file.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct TensorCounts {
    /// In effect.
    pub applied: u64,
    /// Known to be of no effect.
    pub ignored: u64,
    /// Of unknown name, or for a module that the base model lacks.
    pub unknown: u64,
}
