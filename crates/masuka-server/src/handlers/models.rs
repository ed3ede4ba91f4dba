//! LoRA: looked at, described, downloaded in other names, deleted.

use std::path::Path;

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use masuka_storage::blobs::BlobKey;
use masuka_storage::lora_models::Description;
use tokio::io::AsyncReadExt;

use crate::app::{App, Links};
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id, Query};
use crate::temporary::TemporaryFile;
use crate::views::model::{ExportQuery, ModelPatch, ModelQuery, ModelView};

/// The longest name, trigger word or note.
pub(super) const MAX_TEXT_BYTES: usize = 10_000;

/// List LoRA, newest first
#[utoipa::path(
    get, path = "/api/models", tag = "models", params(ModelQuery),
    responses(
        (status = 200, description = "The LoRA", body = Vec<ModelView>),
        Refusals,
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
        Refusals,
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
        Refusals,
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
        Refusals,
    )
)]
pub(crate) async fn delete_model(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    app.storage.lora_models().delete(&id).await?;
    app.tell_changed("models");
    Ok(StatusCode::NO_CONTENT)
}

/// Download a LoRA in another convention's names
///
/// `diffusers`, `kohya` or `comfyui`. LoHa, LoKr and DoRA have no spelling that all of these read, and are refused.
#[utoipa::path(
    get, path = "/api/models/{id}/export", tag = "models",
    params(("id" = String, Path, description = "The LoRA"), ExportQuery),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        Refusals,
    )
)]
pub(crate) async fn export_model(
    State(app): State<App>,
    Id(id): Id,
    Query(query): Query<ExportQuery>,
) -> ApiResult<Response> {
    let model = app.storage.lora_models().find(&id).await?;
    let file = app.storage.local_copy(&BlobKey::parse(&model.blob_key)?, &model.sha256).await?;
    let exported = TemporaryFile::new(&app)?;
    let (here, into, format) = (app.clone(), exported.path().to_owned(), query.format.clone());
    let done =
        tokio::task::spawn_blocking(move || here.desk.export_lora(&file, &format, &into)).await;
    done.map_err(|_| ApiError::unavailable("the writer of this format panicked"))?
        .map_err(|message| ApiError::invalid("format", message))?;
    let name = format!("{}-{}.safetensors", file_name(&model.name), query.format);
    send_file(exported.path(), &name).await
}

/// A name that every system and header takes.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = name.chars().take(80).map(plain).collect();
    if name.trim_matches(['.', '_']).is_empty() { "lora".into() } else { name }
}

/// The file as a download. It may be removed as soon as this returns: what is open stays readable.
async fn send_file(path: &Path, name: &str) -> ApiResult<Response> {
    let failed = |error| masuka_storage::Error::io(path, error);
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let bytes = file.metadata().await.map_err(failed)?.len();
    let chunks = futures_util::stream::try_unfold(file, async |mut file| {
        let mut chunk = vec![0; 1 << 16];
        let count = file.read(&mut chunk).await?;
        chunk.truncate(count);
        Ok::<_, std::io::Error>((count > 0).then_some((chunk, file)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, ResponseBody::from_stream(chunks)).into_response())
}

pub(super) fn check_text(field: &str, text: &str) -> ApiResult<()> {
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
