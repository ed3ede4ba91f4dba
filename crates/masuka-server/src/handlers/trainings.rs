//! Trainings: asked for, looked at, paused, resumed, cancelled, deleted.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use masuka_storage::bus::Signal;
use masuka_storage::queue::JobStatus;
use uuid::Uuid;

use crate::app::{App, Links};
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id};
use crate::resolve_training;
use crate::views::training::{LossView, TrainingBody, TrainingCreatedView, TrainingView};

const MAX_LISTED: u64 = 200;

/// Train an adapter
///
/// What is not given suits the base model. The adapter appears in `/api/models` when it is finished.
#[utoipa::path(
    post, path = "/api/training/flux", tag = "training", request_body = TrainingBody,
    responses(
        (status = 201, description = "Queued", body = TrainingCreatedView),
        Refusals,
    )
)]
pub(crate) async fn create_training(
    State(app): State<App>,
    Body(body): Body<TrainingBody>,
) -> ApiResult<(StatusCode, Json<TrainingCreatedView>)> {
    let id = Uuid::now_v7().to_string();
    let new = resolve_training::resolve(&app, body, &id).await?;
    app.storage.trainings().create(&new, app.options.max_waiting).await?;
    app.bus.publish(&Signal::JobQueued);
    app.bus.publish(&Signal::Events);
    let view = TrainingCreatedView { session_id: id.clone(), status: "pending", task_id: id };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Train an adapter of a video model
#[utoipa::path(
    post, path = "/api/training/video", tag = "training", request_body = TrainingBody,
    responses(
        (status = 201, description = "Queued", body = TrainingCreatedView),
        Refusals,
    )
)]
pub(crate) async fn create_video_training(Body(body): Body<TrainingBody>) -> ApiError {
    let message = format!(
        "no video model can be trained yet, so not `{}`; see POST /api/training/flux",
        body.name
    );
    ApiError::not_implemented("not_implemented", message)
}

/// List trainings, newest first
#[utoipa::path(
    get, path = "/api/training", tag = "training",
    responses(
        (status = 200, description = "The newest 200 trainings", body = Vec<TrainingView>),
        Refusals,
    )
)]
pub(crate) async fn list_trainings(
    State(app): State<App>,
    links: Links,
) -> ApiResult<Json<Vec<TrainingView>>> {
    let mut views = Vec::new();
    for found in app.storage.trainings().list(MAX_LISTED).await? {
        let position = position(&app, &found).await?;
        views.push(TrainingView::new(found, position, &links)?);
    }
    Ok(Json(views))
}

/// Look at a training
#[utoipa::path(
    get, path = "/api/training/{id}", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 200, description = "The training", body = TrainingView),
        Refusals,
    )
)]
pub(crate) async fn get_training(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<TrainingView>> {
    Ok(Json(view(&app, &links, &id).await?))
}

/// The loss of every step so far
#[utoipa::path(
    get, path = "/api/training/{id}/loss", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 200, description = "Oldest first", body = Vec<LossView>),
        Refusals,
    )
)]
pub(crate) async fn get_loss(State(app): State<App>, Id(id): Id) -> ApiResult<Json<Vec<LossView>>> {
    app.storage.trainings().find(&id).await?;
    let losses = app.storage.trainings().losses(&id).await?;
    Ok(Json(losses.into_iter().map(Into::into).collect()))
}

/// Stop it; its last checkpoint stays
///
/// A pending or paused training is cancelled at once, a running one within a transformer block.
#[utoipa::path(
    post, path = "/api/training/{id}/cancel", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 200, description = "The training", body = TrainingView),
        Refusals,
    )
)]
pub(crate) async fn cancel_training(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<TrainingView>> {
    app.storage.trainings().find(&id).await?;
    if app.storage.queue().cancel(&id).await? == JobStatus::Running {
        app.bus.publish(&Signal::CancelRequested { job_id: id.clone() });
    }
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

/// Let it wait
///
/// A pending training is paused at once, a running one after a checkpoint, within moments.
#[utoipa::path(
    post, path = "/api/training/{id}/pause", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 200, description = "The training", body = TrainingView),
        Refusals,
    )
)]
pub(crate) async fn pause_training(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<TrainingView>> {
    app.storage.trainings().pause(&id).await?;
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

/// Go on from the last checkpoint
#[utoipa::path(
    post, path = "/api/training/{id}/resume", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 200, description = "The training", body = TrainingView),
        Refusals,
    )
)]
pub(crate) async fn resume_training(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<TrainingView>> {
    app.storage.trainings().resume(&id).await?;
    app.bus.publish(&Signal::JobQueued);
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

/// Write a checkpoint after the current step
#[utoipa::path(
    post, path = "/api/training/{id}/save", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 202, description = "It will be written", body = TrainingView),
        Refusals,
    )
)]
pub(crate) async fn save_training(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<(StatusCode, Json<TrainingView>)> {
    app.storage.trainings().save(&id).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&app, &links, &id).await?)))
}

/// Delete it with checkpoints and samples; its adapter stays
#[utoipa::path(
    delete, path = "/api/training/{id}", tag = "training",
    params(("id" = String, Path, description = "The training")),
    responses(
        (status = 204, description = "Gone; if it was running, it is cancelled"),
        Refusals,
    )
)]
pub(crate) async fn delete_training(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    if app.storage.trainings().delete(&id).await? {
        app.bus.publish(&Signal::CancelRequested { job_id: id });
    }
    app.bus.publish(&Signal::Events);
    Ok(StatusCode::NO_CONTENT)
}

async fn view(app: &App, links: &Links, id: &str) -> ApiResult<TrainingView> {
    let found = app.storage.trainings().find(id).await?;
    let position = position(app, &found).await?;
    TrainingView::new(found, position, links)
}

/// How many jobs stand before it, while it waits.
async fn position(
    app: &App,
    found: &masuka_storage::trainings::Training,
) -> ApiResult<Option<u64>> {
    if found.job.status()? != JobStatus::Queued {
        return Ok(None);
    }
    Ok(Some(app.storage.queue().position(&found.job).await?))
}
