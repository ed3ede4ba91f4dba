//! Sets of pictures to train on.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use masuka_storage::datasets::NewDataset;
use uuid::Uuid;

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id};
use crate::views::dataset::{DatasetBody, DatasetView};

const MAX_NAME_CHARS: usize = 200;

/// Make a dataset
#[utoipa::path(
    post, path = "/api/datasets", tag = "datasets", request_body = DatasetBody,
    responses(
        (status = 201, description = "Made, without pictures", body = DatasetView),
        Refusals,
    )
)]
pub(crate) async fn create_dataset(
    State(app): State<App>,
    Body(body): Body<DatasetBody>,
) -> ApiResult<(StatusCode, Json<DatasetView>)> {
    check_name("name", &body.name)?;
    body.trigger_word.as_deref().map(check_trigger).transpose()?;
    let new = NewDataset {
        id: Uuid::now_v7().to_string(),
        name: body.name.trim().to_owned(),
        trigger_word: body.trigger_word,
        metadata: body.metadata.unwrap_or_default(),
    };
    let dataset = app.storage.datasets().create(&new).await?;
    app.tell_changed("datasets");
    Ok((StatusCode::CREATED, Json(dataset.into())))
}

/// List datasets, newest first
#[utoipa::path(
    get, path = "/api/datasets", tag = "datasets",
    responses(
        (status = 200, description = "The datasets", body = Vec<DatasetView>),
        Refusals,
    )
)]
pub(crate) async fn list_datasets(State(app): State<App>) -> ApiResult<Json<Vec<DatasetView>>> {
    let all = app.storage.datasets().list().await?;
    Ok(Json(all.into_iter().map(Into::into).collect()))
}

/// Look at a dataset
#[utoipa::path(
    get, path = "/api/datasets/{id}", tag = "datasets",
    params(("id" = String, Path, description = "The dataset")),
    responses(
        (status = 200, description = "The dataset", body = DatasetView),
        Refusals,
    )
)]
pub(crate) async fn get_dataset(
    State(app): State<App>,
    Id(id): Id,
) -> ApiResult<Json<DatasetView>> {
    Ok(Json(app.storage.datasets().find(&id).await?.into()))
}

/// Delete a dataset with all its pictures
#[utoipa::path(
    delete, path = "/api/datasets/{id}", tag = "datasets",
    params(("id" = String, Path, description = "The dataset")),
    responses(
        (status = 204, description = "Gone"),
        Refusals,
    )
)]
pub(crate) async fn delete_dataset(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    app.storage.datasets().delete(&id).await?;
    app.tell_changed("datasets");
    Ok(StatusCode::NO_CONTENT)
}

/// A name that people can read and PostgreSQL takes.
pub(crate) fn check_name(field: &str, name: &str) -> ApiResult<()> {
    let chars = name.chars().count();
    if name.trim().is_empty() {
        return Err(ApiError::invalid(field, format!("{field} is empty")));
    }
    if chars > MAX_NAME_CHARS {
        let message = format!("{field} of {chars} characters is longer than {MAX_NAME_CHARS}");
        return Err(ApiError::invalid(field, message));
    }
    if name.contains('\0') {
        return Err(ApiError::invalid(field, format!("{field} holds the character NUL")));
    }
    Ok(())
}

/// A word that stands within one part of a caption.
pub(crate) fn check_trigger(word: &str) -> ApiResult<()> {
    check_name("trigger_word", word)?;
    if word.contains([',', '\n']) || word.trim() != word {
        let message = format!(
            "trigger_word `{word}` holds a comma or a line break, or begins or ends with a space"
        );
        return Err(ApiError::invalid("trigger_word", message));
    }
    Ok(())
}
