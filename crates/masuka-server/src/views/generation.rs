//! Requests for pictures, and what became of them.

use std::collections::BTreeMap;

use masuka_storage::blobs::BlobKey;
use masuka_storage::entities::output;
use masuka_storage::generations::{Generation, GenerationSpec, LoraChoice};
use masuka_storage::queue::JobStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::{IntoParams, ToSchema};

use crate::app::Links;
use crate::error::ApiResult;
use crate::times::rfc3339;

/// A request for pictures. What is left out is taken from the base model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateBody {
    /// What should be seen, 1 to 4,000 characters.
    pub prompt: String,
    /// What should not be seen; used when `true_cfg_scale` is above 1.
    pub negative_prompt: Option<String>,
    /// 1 to 20; above 1, with a negative prompt, every step runs twice.
    pub true_cfg_scale: Option<f64>,
    /// euler or heun.
    pub sampler: Option<String>,
    /// A LoRA of /api/models.
    pub model_id: Option<String>,
    /// How strongly `model_id` is applied, -2 to 2.
    pub lora_weight: Option<f64>,
    /// More LoRA.
    pub loras: Option<Vec<LoraBody>>,
    /// How many pictures, 1 to 4.
    pub num_images: Option<i64>,
    /// Sampler steps, 1 to 100.
    pub num_inference_steps: Option<i64>,
    /// Distilled guidance, 0 to 20.
    pub guidance_scale: Option<f64>,
    /// Pixels from left to right.
    pub width: Option<i64>,
    /// Pixels from top to bottom.
    pub height: Option<i64>,
    /// Where the noise starts from, 0 to 2^53 - 1; picture i of a job uses seed + i.
    pub seed: Option<i64>,
    /// An installed base model.
    pub base_model: Option<String>,
    /// Extras of the base model's family.
    #[schema(value_type = Option<Object>)]
    pub config: Option<serde_json::Map<String, Json>>,
    /// -10 to 10, higher first.
    pub priority: Option<i64>,
}

/// A LoRA and how strongly it is applied.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoraBody {
    /// A LoRA of /api/models.
    pub model_id: String,
    /// -2 to 2.
    pub weight: Option<f64>,
}

/// What a client gets for a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedView {
    /// The job.
    pub job_id: String,
    /// `pending`.
    pub status: &'static str,
    /// The job's task in the queue.
    pub task_id: String,
}

/// Changes to a generation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerationPatch {
    /// Whether it is liked.
    pub favorite: bool,
}

/// Which generations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GenerationQuery {
    /// At most so many, up to 200 [default: 20]
    pub limit: Option<i64>,
    /// The place where the page before ended, from its `Link` header.
    pub cursor: Option<String>,
    /// pending, processing, completed, failed or cancelled.
    pub status: Option<String>,
    /// Made with this LoRA.
    pub model_id: Option<String>,
    /// Made with this base model.
    pub base_model: Option<String>,
    /// Text in the prompt.
    pub q: Option<String>,
    /// Liked or not.
    pub favorite: Option<bool>,
    /// Asked for after this time, RFC 3339.
    pub created_after: Option<String>,
    /// Asked for before this time, RFC 3339.
    pub created_before: Option<String>,
}

/// A generation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GenerationView {
    id: String,
    /// pending, processing, completed, failed or cancelled.
    status: &'static str,
    prompt: String,
    negative_prompt: Option<String>,
    /// Every resolved value, and the storage keys of the pictures.
    parameters: ParametersView,
    /// Download URLs of the pictures, valid for at least an hour.
    output_paths: Vec<String>,
    images: Vec<ImageView>,
    progress: ProgressNumbers,
    /// How many jobs stand before it; null unless it is pending.
    queue_position: Option<u64>,
    error_code: Option<String>,
    error_message: Option<String>,
    warnings: Vec<String>,
    /// Tokens of the prompt, once it is finished.
    tokens: Option<TokensView>,
    /// Seconds by stage, once it is finished.
    timings: BTreeMap<String, f64>,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    file_size_mb: Option<f64>,
    favorite: bool,
    priority: i64,
    /// How many workers died of it.
    attempts: i64,
}

/// Every resolved value of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParametersView {
    prompt: String,
    negative_prompt: Option<String>,
    true_cfg_scale: f64,
    sampler: String,
    #[schema(value_type = Vec<LoraChoiceView>)]
    loras: Vec<LoraChoice>,
    num_images: u64,
    num_inference_steps: u64,
    guidance_scale: f64,
    width: u64,
    height: u64,
    seed: u64,
    base_model: String,
    /// Extras of the base model's family.
    #[schema(value_type = Object)]
    config: serde_json::Map<String, Json>,
    /// The first LoRA, as the original named it.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<String>,
    /// Of the first LoRA.
    #[schema(required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    lora_weight: Option<f64>,
    /// Storage keys of the pictures.
    output_paths: Vec<String>,
}

/// A LoRA of a request.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes to OpenAPI what the stored request becomes")]
pub(crate) struct LoraChoiceView {
    pub model_id: String,
    pub weight: f64,
}

/// Tokens of a prompt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokensView {
    t5: u64,
    clip: u64,
}

/// A picture.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImageView {
    url: String,
    thumbnail_url: Option<String>,
    seed: i64,
    width: i64,
    height: i64,
    bytes: i64,
    sha256: String,
}

/// How far a job is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct ProgressNumbers {
    /// Steps done for this picture.
    pub step: u64,
    /// Steps this picture takes.
    pub total_steps: u64,
    /// The picture, from 1.
    pub image: u64,
    /// Pictures of the job.
    pub images: u64,
    /// Of the whole job.
    pub percent: f64,
    /// Until the last step.
    pub eta_seconds: Option<f64>,
    /// A small picture of what is to come.
    pub preview_url: Option<String>,
}

impl GenerationView {
    /// `found` for a client that reaches the server by `links`.
    pub(crate) fn new(found: Generation, links: &Links) -> ApiResult<Self> {
        let (spec, report) = (found.spec()?, found.report()?);
        let tokens = report.as_ref().map(|r| TokensView { t5: r.t5_tokens, clip: r.clip_tokens });
        let report = report.unwrap_or_default();
        let progress = progress_numbers(&found, &spec);
        let outputs = found.outputs;
        let bytes: i64 = outputs.iter().map(|output| output.bytes).sum();
        let keys = outputs.iter().map(|output| output.blob_key.clone()).collect();
        let images = outputs
            .into_iter()
            .map(|output| image(output, links))
            .collect::<ApiResult<Vec<_>>>()?;
        Ok(Self {
            id: found.id,
            status: found.status.public_name(),
            prompt: found.prompt,
            negative_prompt: found.negative_prompt,
            parameters: ParametersView::new(spec, keys),
            output_paths: images.iter().map(|image| image.url.clone()).collect(),
            file_size_mb: (!images.is_empty()).then_some(bytes as f64 / f64::from(1 << 20)),
            images,
            progress,
            queue_position: found.queue_position,
            error_code: found.error_code,
            error_message: found.error_message,
            tokens,
            warnings: report.warnings,
            timings: report.timings,
            created_at: rfc3339(found.created_at_ms),
            started_at: found.started_at_ms.map(rfc3339),
            completed_at: found.finished_at_ms.map(rfc3339),
            favorite: found.favorite,
            priority: found.priority,
            attempts: found.attempts,
        })
    }
}

impl ParametersView {
    fn new(spec: GenerationSpec, output_paths: Vec<String>) -> Self {
        Self {
            prompt: spec.prompt,
            negative_prompt: spec.negative_prompt,
            true_cfg_scale: spec.true_cfg_scale,
            sampler: spec.sampler,
            model_id: spec.loras.first().map(|lora| lora.model_id.clone()),
            lora_weight: spec.loras.first().map(|lora| lora.weight),
            loras: spec.loras,
            num_images: spec.num_images,
            num_inference_steps: spec.num_inference_steps,
            guidance_scale: spec.guidance_scale,
            width: spec.width,
            height: spec.height,
            seed: spec.seed,
            base_model: spec.base_model,
            config: spec.config,
            output_paths,
        }
    }
}

/// What the row says of it, or what follows from the status.
pub(crate) fn progress_numbers(found: &Generation, spec: &GenerationSpec) -> ProgressNumbers {
    let (total_steps, images) = (spec.num_inference_steps, spec.num_images);
    let start = ProgressNumbers { total_steps, images, ..ProgressNumbers::default() };
    if found.status == JobStatus::Completed {
        let (percent, eta_seconds) = (100.0, Some(0.0));
        return ProgressNumbers { step: total_steps, image: images, percent, eta_seconds, ..start };
    }
    let kept = found.progress.as_deref().and_then(|text| serde_json::from_str(text).ok());
    kept.unwrap_or(start)
}

fn image(output: output::Model, links: &Links) -> ApiResult<ImageView> {
    let thumbnail = output.thumbnail_key.as_deref().map(BlobKey::parse).transpose()?;
    Ok(ImageView {
        url: links.file(&BlobKey::parse(&output.blob_key)?),
        thumbnail_url: thumbnail.map(|key| links.file(&key)),
        seed: output.seed,
        width: output.width,
        height: output.height,
        bytes: output.bytes,
        sha256: output.sha256,
    })
}
