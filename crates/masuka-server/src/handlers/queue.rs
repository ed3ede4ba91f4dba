//! The queue: what waits, what runs, who works.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use masuka_storage::bus::Signal;
use masuka_storage::events;
use masuka_storage::queue::Side;

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id};
use crate::resolve;
use crate::views::queue::{JobPatch, LogEntry, QueueView};

const MAX_LOG_ENTRIES: u64 = 1000;

/// Look at the queue
#[utoipa::path(
    get, path = "/api/queue", tag = "queue",
    responses(
        (status = 200, description = "The queue", body = QueueView),
        Refusals,
    )
)]
pub(crate) async fn get_queue(State(app): State<App>) -> ApiResult<Json<QueueView>> {
    let queue = app.storage.queue();
    let depth = queue.depth().await?;
    let processes = app.storage.processes().living().await?;
    let workers = processes.into_iter().filter(|process| process.role == "worker");
    Ok(Json(QueueView {
        paused: queue.is_paused().await?,
        pending: depth.waiting,
        processing: depth.running,
        workers: workers.map(Into::into).collect(),
    }))
}

/// Hand out no more jobs
#[utoipa::path(
    post, path = "/api/queue/pause", tag = "queue",
    responses(
        (status = 204, description = "Paused; running jobs go on"),
        Refusals,
    )
)]
pub(crate) async fn pause_queue(State(app): State<App>) -> ApiResult<StatusCode> {
    app.storage.queue().pause().await?;
    app.tell_changed("queue");
    Ok(StatusCode::NO_CONTENT)
}

/// Hand out jobs again
#[utoipa::path(
    post, path = "/api/queue/resume", tag = "queue",
    responses(
        (status = 204, description = "Resumed"),
        Refusals,
    )
)]
pub(crate) async fn resume_queue(State(app): State<App>) -> ApiResult<StatusCode> {
    app.storage.queue().resume().await?;
    app.bus.publish(&Signal::JobQueued);
    app.tell_changed("queue");
    Ok(StatusCode::NO_CONTENT)
}

/// Move a waiting job
#[utoipa::path(
    patch, path = "/api/queue/{id}", tag = "queue",
    params(("id" = String, Path, description = "The job")),
    request_body = JobPatch,
    responses(
        (status = 204, description = "Moved"),
        Refusals,
    )
)]
pub(crate) async fn update_job(
    State(app): State<App>,
    Id(id): Id,
    Body(patch): Body<JobPatch>,
) -> ApiResult<StatusCode> {
    let queue = app.storage.queue();
    match patch {
        JobPatch { priority: Some(priority), before: None, after: None } => {
            let priority = resolve::priority(Some(priority))?;
            queue.set_priority(&id, priority).await?;
        }
        JobPatch { priority: None, before: Some(other), after: None } => {
            queue.place(&id, Side::Before, &known("before", other)?).await?;
        }
        JobPatch { priority: None, before: None, after: Some(other) } => {
            queue.place(&id, Side::After, &known("after", other)?).await?;
        }
        _ => {
            let message =
                "exactly one of priority, before and after says where the job shall stand";
            return Err(ApiError::invalid("priority", message));
        }
    }
    app.tell_changed("queue");
    Ok(StatusCode::NO_CONTENT)
}

/// An id that a database can look up.
fn known(field: &str, id: String) -> ApiResult<String> {
    if id.contains('\0') {
        return Err(ApiError::invalid(field, format!("{field} holds the character NUL")));
    }
    Ok(id)
}

/// What happened to a job
#[utoipa::path(
    get, path = "/api/jobs/{id}/log", tag = "queue",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "Oldest first", body = Vec<LogEntry>),
        Refusals,
    )
)]
pub(crate) async fn get_job_log(
    State(app): State<App>,
    Id(id): Id,
) -> ApiResult<Json<Vec<LogEntry>>> {
    app.storage.queue().find(&id).await?;
    let log = events::since(app.storage.database(), 0, Some(&id), MAX_LOG_ENTRIES).await?;
    Ok(Json(log.into_iter().map(Into::into).collect()))
}
