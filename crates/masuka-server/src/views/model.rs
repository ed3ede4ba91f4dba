//! LoRA and base models.

use masuka_storage::base_models::{BaseModelFacts, MemoryNeed};
use masuka_storage::blobs::BlobKey;
use masuka_storage::entities::{base_model, lora_model};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::{IntoParams, ToSchema};

use crate::app::Links;
use crate::desk::TensorCounts;
use crate::error::ApiResult;
use crate::times::rfc3339;

/// Which LoRA.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModelQuery {
    /// flux_image, …
    pub model_type: Option<String>,
    /// Text in name or trigger word.
    pub q: Option<String>,
}

/// Changes to a LoRA.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelPatch {
    /// For people.
    pub name: Option<String>,
    /// The word that calls it.
    pub trigger_word: Option<String>,
    /// Your own words.
    pub notes: Option<String>,
}

/// In which names a LoRA is written.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// diffusers, kohya or comfyui.
    pub format: String,
}

/// An import of a file that is elsewhere: one of `url` and `path`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportBody {
    /// Address of a .safetensors file in the public internet.
    pub url: Option<String>,
    /// A file of the server's import folder.
    pub path: Option<String>,
    /// For people [default: the file's name]
    pub name: Option<String>,
    /// The word that calls it.
    pub trigger_word: Option<String>,
    /// The base model it is for [default: the configured one]
    pub base_model: Option<String>,
    /// Take it even if some tensors fit nowhere.
    pub allow_partial: Option<bool>,
}

/// What an import form may hold.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes the multipart form to OpenAPI")]
pub(crate) struct ImportForm {
    /// The .safetensors file.
    #[schema(value_type = String, format = Binary)]
    pub file: String,
    /// For people [default: the file's name]
    pub name: Option<String>,
    /// The word that calls it.
    pub trigger_word: Option<String>,
    /// The base model it is for [default: the configured one]
    pub base_model: Option<String>,
    /// Take it even if some tensors fit nowhere.
    pub allow_partial: Option<bool>,
}

/// A LoRA.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelView {
    id: String,
    name: String,
    version: String,
    model_type: String,
    base_model: Option<String>,
    trigger_word: Option<String>,
    notes: Option<String>,
    rank: Option<i64>,
    alpha: Option<f64>,
    file_size_mb: f64,
    file_size_bytes: i64,
    sha256: String,
    /// The convention of its tensor names.
    format: String,
    /// Training parameters, the file's own header, the import's report.
    #[schema(value_type = Object)]
    model_metadata: Json,
    training_session_id: Option<String>,
    created_at: String,
    /// Valid for at least an hour.
    download_url: String,
}

/// An imported LoRA with what became of its tensors.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedView {
    #[serde(flatten)]
    pub model: ModelView,
    pub tensors: TensorCounts,
}

impl ModelView {
    /// `model` for a client that reaches the server by `links`.
    pub(crate) fn new(model: lora_model::Model, links: &Links) -> ApiResult<Self> {
        Ok(Self {
            download_url: links.file(&BlobKey::parse(&model.blob_key)?),
            model_metadata: with_sample_urls(&model.metadata, links),
            file_size_mb: model.bytes as f64 / f64::from(1 << 20),
            created_at: rfc3339(model.created_at_ms),
            id: model.id,
            name: model.name,
            version: model.version,
            model_type: model.model_type,
            base_model: model.base_model,
            trigger_word: model.trigger_word,
            notes: model.notes,
            rank: model.rank,
            alpha: model.alpha,
            file_size_bytes: model.bytes,
            sha256: model.sha256,
            format: model.format,
            training_session_id: model.training_session_id,
        })
    }
}

/// The metadata, each sample with a URL that is valid for at least an hour.
fn with_sample_urls(metadata: &str, links: &Links) -> Json {
    let mut metadata: Json = serde_json::from_str(metadata).unwrap_or_default();
    let samples = metadata.get_mut("samples").and_then(Json::as_array_mut);
    for sample in samples.into_iter().flatten() {
        let key = sample["blob_key"].as_str().and_then(|key| BlobKey::parse(key).ok());
        if let Some(key) = key {
            sample["url"] = Json::from(links.file(&key));
        }
    }
    metadata
}

/// Changes to a base model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BaseModelPatch {
    /// true: requests that name none get it.
    pub is_default: bool,
}

/// How a base model is taken off the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BaseModelRemoval {
    /// Whether files that were downloaded from the hub are erased [default: false]
    pub files: Option<bool>,
}

/// An installed base model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BaseModelView {
    id: String,
    name: String,
    family: String,
    /// Whether requests that name none get it.
    is_default: bool,
    defaults: DefaultsView,
    limits: LimitsView,
    /// What a picture of the default size takes on a processor, one entry a memory mode.
    memory: Vec<MemoryView>,
    created_at: String,
}

/// What a picture of the default size takes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoryView {
    /// none, components or blocks: what leaves the memory when it is not needed.
    offload: String,
    bytes: u64,
}

/// Where a request says nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DefaultsView {
    num_inference_steps: u64,
    guidance_scale: f64,
    width: u64,
    height: u64,
}

/// What is accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitsView {
    size_multiple: u64,
    min_side: u64,
    max_side: u64,
    /// The most pixels of a picture on this server.
    max_pixels: u64,
    max_prompt_chars: u64,
    max_images: u64,
    max_steps: u64,
    samplers: Vec<String>,
}

impl BaseModelView {
    /// `model` on a server with this default and area limit.
    pub(crate) fn new(model: base_model::Model, default: &str, max_pixels: u64) -> ApiResult<Self> {
        let BaseModelFacts { defaults, limits, memory } = model.facts()?;
        let view = |MemoryNeed { offload, bytes }| MemoryView { offload, bytes };
        Ok(Self {
            is_default: model.id == default,
            created_at: rfc3339(model.created_at_ms),
            id: model.id,
            name: model.name,
            family: model.family,
            defaults: DefaultsView {
                num_inference_steps: defaults.num_inference_steps,
                guidance_scale: defaults.guidance_scale,
                width: defaults.width,
                height: defaults.height,
            },
            limits: LimitsView {
                size_multiple: limits.size_multiple,
                min_side: limits.min_side,
                max_side: limits.max_side,
                max_pixels,
                max_prompt_chars: limits.max_prompt_chars,
                max_images: limits.max_images,
                max_steps: limits.max_steps,
                samplers: limits.samplers,
            },
            memory: memory.into_iter().map(view).collect(),
        })
    }
}
