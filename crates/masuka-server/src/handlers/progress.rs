//! Streams of what happens, to one job or to all.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::app::{App, Links};
use crate::error::{ApiResult, Refusals};
use crate::extract::Id;
use crate::streams::{Everything, Listener, OneJob, Start, respond};
use crate::views::progress::{ProgressMessage, ServerEvent};

/// Watch a job
///
/// The current state comes first; the stream ends after the final state. With `Last-Event-ID` the stage changes since
/// then are repeated.
#[utoipa::path(
    get, path = "/api/progress/stream/{id}", tag = "progress",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "Messages", body = ProgressMessage, content_type = "text/event-stream"),
        Refusals,
    )
)]
pub(crate) async fn stream_job(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let start = Start::now(&app, &headers).await?;
    let job = OneJob::find(&app, links, &id, start.resumes()).await?;
    Ok(respond(Listener::new(app, start, job)))
}

/// Watch everything
///
/// All state changes of all jobs from now on, or since `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/events", tag = "progress",
    responses(
        (status = 200, description = "Messages", body = ServerEvent, content_type = "text/event-stream"),
        Refusals,
    )
)]
pub(crate) async fn stream_events(
    State(app): State<App>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let start = Start::now(&app, &headers).await?;
    Ok(respond(Listener::new(app, start, Everything)))
}
