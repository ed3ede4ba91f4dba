//! Pictures: asked for, looked at, liked, cancelled, deleted.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use masuka_storage::bus::Signal;
use masuka_storage::generations::{Cursor, Filter, Generation, NewGeneration};
use masuka_storage::queue::{GENERATION, JobStatus, NewJob};
use uuid::Uuid;

use crate::app::{App, Links};
use crate::error::{ApiError, ApiResult, ErrorBody, Refusals};
use crate::extract::{Body, Id, Query};
use crate::resolve;
use crate::times;
use crate::views::generation::{
    CreatedView, GenerateBody, GenerationPatch, GenerationQuery, GenerationView,
};

const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 200;

/// Ask for pictures
#[utoipa::path(
    post, path = "/api/generate/image", tag = "pictures",
    request_body = GenerateBody,
    responses(
        (status = 201, description = "Queued", body = CreatedView),
        Refusals,
    )
)]
pub(crate) async fn create_generation(
    State(app): State<App>,
    Body(body): Body<GenerateBody>,
) -> ApiResult<(StatusCode, Json<CreatedView>)> {
    let model = app.base_model(body.base_model.as_deref()).await?;
    let priority = resolve::priority(body.priority)?;
    let spec = resolve::resolve(body, &model, app.options.max_pixels)?;
    for lora in &spec.loras {
        app.storage.lora_models().find(&lora.model_id).await?;
    }
    let id = Uuid::now_v7().to_string();
    let job = NewJob {
        id: id.clone(),
        queue: GENERATION,
        kind: "generate_image",
        base_model: model.id,
        priority,
        max_attempts: app.options.max_attempts,
    };
    app.requests.create(NewGeneration { spec, job }).await?;
    app.bus.publish(&Signal::JobQueued);
    app.bus.publish(&Signal::Events);
    let view = CreatedView { job_id: id.clone(), status: "pending", task_id: id };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Ask for a video
///
/// No family of video models is supported yet.
#[utoipa::path(
    post, path = "/api/generate/video", tag = "pictures",
    responses((status = 501, description = "No video model is installed", body = ErrorBody), Refusals)
)]
pub(crate) async fn create_video() -> ApiError {
    let message = "no video model is installed, and this version supports none: POST /api/generate/image draws \
                   pictures, GET /api/models/base lists the models for it";
    ApiError::not_implemented("no_video_model", message)
}

/// Look at a generation
#[utoipa::path(
    get, path = "/api/generate/{job_id}", tag = "pictures",
    params(("job_id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The generation", body = GenerationView),
        Refusals,
    )
)]
pub(crate) async fn get_generation(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<GenerationView>> {
    Ok(Json(view(&app, &links, &id).await?))
}

/// List generations, newest first
///
/// The next page's address is in the `Link` header.
#[utoipa::path(
    get, path = "/api/generate", tag = "pictures", params(GenerationQuery),
    responses(
        (status = 200, description = "The generations", body = Vec<GenerationView>),
        Refusals,
    )
)]
pub(crate) async fn list_generations(
    State(app): State<App>,
    links: Links,
    uri: axum::http::Uri,
    Query(query): Query<GenerationQuery>,
) -> ApiResult<(HeaderMap, Json<Vec<GenerationView>>)> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid(
            "limit",
            format!("limit {limit} is not within 1 and {MAX_LIMIT}"),
        ));
    }
    let limit = limit.unsigned_abs();
    let mut found = app.storage.generations().list(&filter(query)?, limit + 1).await?;
    let mut headers = HeaderMap::new();
    if found.len() as u64 > limit {
        found.truncate(limit as usize);
        headers.extend(found.last().and_then(|last| next_link(&uri, last, &links)));
    }
    let views = found.into_iter().map(|generation| GenerationView::new(generation, &links));
    Ok((headers, Json(views.collect::<ApiResult<_>>()?)))
}

/// Like it or not
#[utoipa::path(
    patch, path = "/api/generate/{job_id}", tag = "pictures",
    params(("job_id" = String, Path, description = "The job")),
    request_body = GenerationPatch,
    responses(
        (status = 200, description = "The generation", body = GenerationView),
        Refusals,
    )
)]
pub(crate) async fn update_generation(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
    Body(patch): Body<GenerationPatch>,
) -> ApiResult<Json<GenerationView>> {
    app.storage.generations().set_favorite(&id, patch.favorite).await?;
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

/// Delete it
///
/// Pictures and row are gone for every reader at once; for 30 seconds they can be restored.
#[utoipa::path(
    delete, path = "/api/generate/{job_id}", tag = "pictures",
    params(("job_id" = String, Path, description = "The job")),
    responses(
        (status = 204, description = "Gone"),
        Refusals,
    )
)]
pub(crate) async fn delete_generation(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    if app.storage.generations().delete(&id).await? {
        app.bus.publish(&Signal::CancelRequested { job_id: id });
    }
    app.bus.publish(&Signal::Events);
    Ok(StatusCode::NO_CONTENT)
}

/// Bring a deleted one back, within 30 seconds
#[utoipa::path(
    post, path = "/api/generate/{job_id}/restore", tag = "pictures",
    params(("job_id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The generation", body = GenerationView),
        Refusals,
    )
)]
pub(crate) async fn restore_generation(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<GenerationView>> {
    app.storage.generations().restore(&id).await?;
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

/// Stop it
///
/// A pending job is cancelled at once, a running one within a transformer block or a tile.
#[utoipa::path(
    post, path = "/api/generate/{job_id}/cancel", tag = "pictures",
    params(("job_id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The generation", body = GenerationView),
        Refusals,
    )
)]
pub(crate) async fn cancel_generation(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<GenerationView>> {
    app.storage.generations().find(&id).await?;
    if app.storage.queue().cancel(&id).await? == JobStatus::Running {
        app.bus.publish(&Signal::CancelRequested { job_id: id.clone() });
    }
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

/// Try a failed or cancelled one again
#[utoipa::path(
    post, path = "/api/generate/{job_id}/retry", tag = "pictures",
    params(("job_id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The generation", body = GenerationView),
        Refusals,
    )
)]
pub(crate) async fn retry_generation(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
) -> ApiResult<Json<GenerationView>> {
    app.storage.generations().find(&id).await?;
    app.storage.queue().retry(&id).await?;
    app.bus.publish(&Signal::JobQueued);
    app.bus.publish(&Signal::Events);
    Ok(Json(view(&app, &links, &id).await?))
}

async fn view(app: &App, links: &Links, id: &str) -> ApiResult<GenerationView> {
    GenerationView::new(app.storage.generations().find(id).await?, links)
}

fn filter(query: GenerationQuery) -> ApiResult<Filter> {
    let status = query.status.as_deref().map(status_of).transpose()?;
    let time = |field: &str, text: Option<String>| {
        let parse = |text: String| {
            let message = format!("{field} `{text}` is no time such as 2026-11-24T12:00:00Z");
            times::parse(&text).ok_or_else(|| ApiError::invalid(field, message))
        };
        text.map(parse).transpose()
    };
    let cursor = |word: String| {
        let message = format!("cursor `{word}` is none of a Link header");
        Cursor::decode(&word).ok_or_else(|| ApiError::invalid("cursor", message))
    };
    Ok(Filter {
        status,
        model_id: text("model_id", query.model_id)?,
        base_model: text("base_model", query.base_model)?,
        text: text("q", query.q)?,
        favorite: query.favorite,
        created_after_ms: time("created_after", query.created_after)?,
        created_before_ms: time("created_before", query.created_before)?,
        after: text("cursor", query.cursor)?.map(cursor).transpose()?,
    })
}

/// PostgreSQL refuses NUL in texts.
fn text(field: &str, value: Option<String>) -> ApiResult<Option<String>> {
    match value {
        Some(value) if value.contains('\0') => {
            Err(ApiError::invalid(field, format!("{field} holds the character NUL")))
        }
        value => Ok(value),
    }
}

fn status_of(name: &str) -> ApiResult<JobStatus> {
    use JobStatus::{Cancelled, Completed, Failed, Queued, Running};
    let all = [Queued, Running, Completed, Failed, Cancelled];
    let known = all.into_iter().find(|status| status.public_name() == name);
    known.ok_or_else(|| {
        let names = all.map(JobStatus::public_name).join(", ");
        ApiError::invalid("status", format!("status `{name}` is not one of {names}"))
    })
}

/// `Link: <…>; rel="next"`: the same question, after the last row.
fn next_link(
    uri: &axum::http::Uri,
    last: &Generation,
    links: &Links,
) -> Option<(header::HeaderName, HeaderValue)> {
    let cursor = Cursor { created_at_ms: last.created_at_ms, id: last.id.clone() };
    let others = uri.query().unwrap_or_default().split('&');
    let others = others.filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let query: Vec<_> =
        others.map(str::to_owned).chain([format!("cursor={}", cursor.encode())]).collect();
    let url = links.to(&format!("{}?{}", uri.path(), query.join("&")));
    Some((header::LINK, HeaderValue::from_str(&format!("<{url}>; rel=\"next\"")).ok()?))
}
