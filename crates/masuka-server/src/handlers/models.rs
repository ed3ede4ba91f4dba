//! LoRA: imported, looked at, described, deleted.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::multipart::Field;
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use masuka_storage::base_models;
use masuka_storage::blobs::BlobKey;
use masuka_storage::entities::lora_model;
use masuka_storage::lora_models::Description;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::app::{App, Links};
use crate::desk::LoraFacts;
use crate::error::{ApiError, ApiResult, ErrorBody};
use crate::extract::{Body, Id, Query};
use crate::views::model::{ImportForm, ImportedView, ModelPatch, ModelQuery, ModelView};

const MAX_TEXT_BYTES: usize = 10_000;

/// List LoRA, newest first
#[utoipa::path(
    get, path = "/api/models", tag = "models", params(ModelQuery),
    responses(
        (status = 200, description = "The LoRA", body = Vec<ModelView>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn list_models(
    State(app): State<App>,
    links: Links,
    Query(query): Query<ModelQuery>,
) -> ApiResult<Json<Vec<ModelView>>> {
    if query.model_type.as_deref().is_some_and(|text| text.contains('\0')) {
        return Err(ApiError::invalid("model_type", "model_type holds the character NUL"));
    }
    let found =
        app.storage.lora_models().list(query.model_type.as_deref(), query.q.as_deref()).await?;
    let views = found.into_iter().map(|model| ModelView::new(model, &links));
    Ok(Json(views.collect::<ApiResult<_>>()?))
}

/// Look at a LoRA
#[utoipa::path(
    get, path = "/api/models/{id}", tag = "models",
    params(("id" = String, Path, description = "The LoRA")),
    responses(
        (status = 200, description = "The LoRA", body = ModelView),
        (status = "4XX", description = "Unknown", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn get_model(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<ModelView>> {
    Ok(Json(ModelView::new(app.storage.lora_models().find(&id).await?, &links)?))
}

/// Describe a LoRA
#[utoipa::path(
    patch, path = "/api/models/{id}", tag = "models",
    params(("id" = String, Path, description = "The LoRA")),
    request_body = ModelPatch,
    responses(
        (status = 200, description = "The LoRA", body = ModelView),
        (status = "4XX", description = "Unknown", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn update_model(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
    Body(patch): Body<ModelPatch>,
) -> ApiResult<Json<ModelView>> {
    let ModelPatch { name, trigger_word, notes } = patch;
    for (field, text) in [("name", &name), ("trigger_word", &trigger_word), ("notes", &notes)] {
        check_text(field, text.as_deref().unwrap_or_default())?;
    }
    if name.as_deref().is_some_and(|name| name.trim().is_empty()) {
        return Err(ApiError::invalid("name", "name is empty"));
    }
    let change = Description { name, trigger_word, notes };
    let model = app.storage.lora_models().describe(&id, change).await?;
    app.tell_changed("models");
    Ok(Json(ModelView::new(model, &links)?))
}

/// Delete a LoRA
#[utoipa::path(
    delete, path = "/api/models/{id}", tag = "models",
    params(("id" = String, Path, description = "The LoRA")),
    responses(
        (status = 204, description = "Gone"),
        (status = "4XX", description = "Unknown, or a job uses it", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn delete_model(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    app.storage.lora_models().delete(&id).await?;
    app.tell_changed("models");
    Ok(StatusCode::NO_CONTENT)
}

/// Import a LoRA
///
/// Any convention of the field. Tensors that fit nowhere refuse the import unless `allow_partial` is set.
#[utoipa::path(
    post, path = "/api/models/import", tag = "models",
    request_body(content = ImportForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "Imported", body = ImportedView),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn import_model(
    State(app): State<App>,
    links: Links,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> ApiResult<(StatusCode, Json<ImportedView>)> {
    let form =
        form.map_err(|e| ApiError::unsupported_type(format!("{e}; send multipart/form-data")))?;
    let upload = Upload::receive(&app, form).await?;
    let base_model = upload.base_model.clone().unwrap_or_else(|| app.options.base_model.clone());
    let base = base_models::find(app.storage.database(), &base_model).await?;
    let (app_here, path) = (app.clone(), upload.path()?.to_owned());
    let examined =
        tokio::task::spawn_blocking(move || app_here.desk.examine_lora(&path, &base)).await;
    let facts = examined
        .map_err(|_| ApiError::invalid("file", "this file makes the reader panic"))?
        .map_err(|message| ApiError::invalid("file", message))?;
    check_facts(&facts, upload.allow_partial)?;
    let id = Uuid::now_v7().to_string();
    let key = BlobKey::parse(&format!("models/{id}/lora.safetensors"))?;
    app.storage.blobs().put_file(&key, upload.path()?).await?;
    let tensors = facts.tensors;
    let model =
        app.storage.lora_models().enter(upload.into_row(id, &key, &base_model, facts)).await?;
    app.tell_changed("models");
    let model = ModelView::new(model, &links)?;
    Ok((StatusCode::CREATED, Json(ImportedView { model, tensors })))
}

fn check_facts(facts: &LoraFacts, allow_partial: bool) -> ApiResult<()> {
    if facts.tensors.applied == 0 {
        let message =
            "file holds no LoRA for this base model: none of its tensors would have an effect";
        return Err(ApiError::invalid("file", message));
    }
    match &facts.first_unknown {
        Some(first) if !allow_partial => {
            let count = facts.tensors.unknown;
            let message = format!(
                "file has {count} tensors that fit nowhere, the first is `{first}`; allow_partial takes the rest"
            );
            Err(ApiError::invalid("file", message))
        }
        _ => Ok(()),
    }
}

fn check_text(field: &str, text: &str) -> ApiResult<()> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(ApiError::invalid(
            field,
            format!("{field} is longer than {MAX_TEXT_BYTES} bytes"),
        ));
    }
    if text.contains('\0') {
        return Err(ApiError::invalid(field, format!("{field} holds the character NUL")));
    }
    Ok(())
}

/// An import form as it arrives; its file goes away with it.
#[derive(Default)]
struct Upload {
    file: Option<TemporaryFile>,
    file_name: String,
    bytes: u64,
    sha256: String,
    name: Option<String>,
    trigger_word: Option<String>,
    base_model: Option<String>,
    allow_partial: bool,
}

struct TemporaryFile(PathBuf);

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

impl Upload {
    async fn receive(app: &App, mut form: Multipart) -> ApiResult<Self> {
        let mut upload = Self::default();
        while let Some(field) = form.next_field().await.map_err(ApiError::malformed)? {
            let name = field.name().unwrap_or_default().to_owned();
            match name.as_str() {
                "file" => upload.take_file(app, field).await?,
                "name" => upload.name = Some(text(field, &name).await?),
                "trigger_word" => upload.trigger_word = Some(text(field, &name).await?),
                "base_model" => upload.base_model = Some(text(field, &name).await?),
                "allow_partial" => {
                    let value = text(field, &name).await?;
                    let message = format!("allow_partial `{value}` is not one of true, false");
                    upload.allow_partial =
                        value.parse().map_err(|_| ApiError::invalid("allow_partial", message))?;
                }
                _ => {
                    let message = format!(
                        "unknown field `{name}`, expected one of file, name, trigger_word, base_model, allow_partial"
                    );
                    return Err(ApiError::invalid(&name, message));
                }
            }
        }
        upload.path()?;
        Ok(upload)
    }

    /// Writes the file to disk as it comes, counting and hashing it.
    async fn take_file(&mut self, app: &App, mut field: Field<'_>) -> ApiResult<()> {
        self.file_name = field.file_name().unwrap_or("lora").to_owned();
        let path = app.storage.new_upload_path()?;
        let failed = |error: std::io::Error| masuka_storage::Error::io(&path, error);
        let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
        self.file = Some(TemporaryFile(path.clone()));
        let mut hash = Sha256::new();
        while let Some(chunk) = field.chunk().await.map_err(ApiError::malformed)? {
            self.bytes += chunk.len() as u64;
            if self.bytes > app.options.max_upload_bytes {
                let limit = app.options.max_upload_bytes;
                return Err(ApiError::too_large(format!("the file is longer than {limit} bytes")));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        self.sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(())
    }

    fn path(&self) -> ApiResult<&Path> {
        let file = self.file.as_ref().map(|file| file.0.as_path());
        file.ok_or_else(|| ApiError::invalid("file", "file is missing; send a .safetensors file"))
    }

    fn into_row(
        self,
        id: String,
        key: &BlobKey,
        base_model: &str,
        facts: LoraFacts,
    ) -> lora_model::Model {
        let stem = Path::new(&self.file_name).file_stem();
        let stem = stem.map_or("lora".into(), |stem| stem.to_string_lossy().into_owned());
        lora_model::Model {
            id,
            name: self.name.filter(|name| !name.trim().is_empty()).unwrap_or(stem),
            version: "1.0".into(),
            model_type: "flux_image".into(),
            base_model: Some(base_model.to_owned()),
            trigger_word: self.trigger_word.or(facts.trigger_word),
            notes: None,
            rank: facts.rank.and_then(|rank| rank.try_into().ok()),
            alpha: facts.alpha,
            bytes: self.bytes.try_into().unwrap_or(i64::MAX),
            sha256: self.sha256,
            format: facts.format,
            metadata: json!({ "tensors": facts.tensors, "header": facts.header }).to_string(),
            blob_key: key.to_string(),
            training_session_id: None,
            created_at_ms: 0,
            deleted_at_ms: None,
        }
    }
}

/// A text of the form; no more of it is read than may be.
async fn text(mut field: Field<'_>, name: &str) -> ApiResult<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(ApiError::malformed)? {
        bytes.extend(chunk);
        if bytes.len() > MAX_TEXT_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    check_text(name, &text)?;
    Ok(text)
}
