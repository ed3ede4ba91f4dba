//! The server itself: whether it lives, what it counts, what it runs on.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use masuka_storage::blobs::BlobKey;
use masuka_storage::disk::free_bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::app::App;
use crate::desk::TokenCounts;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::Body;
use crate::views::queue::ProcessView;

/// A prompt to be counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizeBody {
    prompt: String,
    /// An installed base model [default: the configured one]
    base_model: Option<String>,
}

/// Count a prompt's tokens, and see what would be cut
#[utoipa::path(
    post, path = "/api/tokenize", tag = "pictures", request_body = TokenizeBody,
    responses(
        (status = 200, description = "The counts", body = TokenCounts),
        Refusals,
    )
)]
pub(crate) async fn tokenize(
    State(app): State<App>,
    Body(body): Body<TokenizeBody>,
) -> ApiResult<Json<TokenCounts>> {
    let model = app.base_model(body.base_model.as_deref()).await?;
    let limit = model.facts()?.limits.max_prompt_chars;
    let chars = body.prompt.chars().count() as u64;
    if chars > limit {
        let message = format!("prompt of {chars} characters is longer than {limit} characters");
        return Err(ApiError::invalid("prompt", message));
    }
    let counts = tokio::task::spawn_blocking(move || app.desk.count_tokens(&model, &body.prompt));
    let counts = counts.await.map_err(|_| ApiError::unavailable("the tokenizer panicked"))?;
    counts.map(Json).map_err(|message| ApiError::invalid("base_model", message))
}

/// Whether the process lives
#[utoipa::path(
    get, path = "/health", tag = "service",
    responses((status = 200, description = "It does", body = HealthView))
)]
pub(crate) async fn health() -> Json<HealthView> {
    Json(HealthView { status: "ok" })
}

/// It lives.
#[derive(Serialize, ToSchema)]
pub(crate) struct HealthView {
    status: &'static str,
}

/// What a server needs, each with what is wrong with it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReadyView {
    ready: bool,
    /// null is well.
    database: Option<String>,
    /// null is well.
    storage: Option<String>,
    /// null is well; no worker is no fault of the server.
    queue: Option<String>,
    /// Workers that live.
    workers: u64,
}

/// Whether it can answer: database, storage, queue
#[utoipa::path(
    get, path = "/ready", tag = "service",
    responses(
        (status = 200, description = "It can", body = ReadyView),
        (status = 503, description = "What fails is named", body = ReadyView),
    )
)]
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<ReadyView>) {
    let database = app.storage.database().now_ms().await.err().map(|e| e.to_string());
    let storage = probe_storage(&app).await.err().map(|e| e.to_string());
    let queue = app.storage.queue().depth().await.err().map(|e| e.to_string());
    let processes = app.storage.processes().living().await.unwrap_or_default();
    let workers = processes.iter().filter(|process| process.role == "worker").count() as u64;
    let ready = database.is_none() && storage.is_none() && queue.is_none();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyView { ready, database, storage, queue, workers }))
}

/// Writes and removes a small file.
async fn probe_storage(app: &App) -> masuka_storage::Result<()> {
    let folder = BlobKey::parse(&format!("probe/{}", app.options.id))?;
    let key = BlobKey::parse(&format!("{folder}/ready"))?;
    app.storage.blobs().put(&key, "ready").await?;
    app.storage.blobs().delete_all(&folder).await?;
    Ok(())
}

/// The server and its machine.
#[derive(Serialize, ToSchema)]
pub(crate) struct SystemView {
    version: &'static str,
    /// The base model of requests that name none.
    base_model: String,
    pending: u64,
    processing: u64,
    processes: Vec<ProcessView>,
    storage: StorageView,
    /// Processor, memory, devices and kernels of the machine that answers.
    #[schema(value_type = Object)]
    machine: serde_json::Value,
}

/// Where pictures and models lie.
#[derive(Serialize, ToSchema)]
pub(crate) struct StorageView {
    /// folder or bucket.
    kind: &'static str,
    /// What the disk of the data folder has room for; null where the system does not tell.
    free_bytes: Option<u64>,
}

/// What the server runs on
#[utoipa::path(
    get, path = "/api/system", tag = "service",
    responses(
        (status = 200, description = "The system", body = SystemView),
        Refusals,
    )
)]
pub(crate) async fn get_system(State(app): State<App>) -> ApiResult<Json<SystemView>> {
    Ok(Json(system(&app).await?))
}

/// The system at this moment.
pub(crate) async fn system(app: &App) -> masuka_storage::Result<SystemView> {
    let depth = app.storage.queue().depth().await?;
    let processes = app.storage.processes().living().await?;
    let kind = if app.storage.blobs().is_local() { "folder" } else { "bucket" };
    let free_bytes = free_bytes(&app.storage.training_folder());
    Ok(SystemView {
        version: app.options.version,
        base_model: app.default_base_model().await?,
        pending: depth.waiting,
        processing: depth.running,
        processes: processes.into_iter().map(Into::into).collect(),
        storage: StorageView { kind, free_bytes },
        machine: app.desk.machine(),
    })
}

/// Counts for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses(
        (status = 200, description = "Counts", body = String, content_type = "text/plain"),
        Refusals,
    )
)]
pub(crate) async fn metrics(State(app): State<App>) -> ApiResult<Response> {
    let queue = app.storage.queue();
    let mut text = String::new();
    let depth = queue.depth().await?;
    let mut gauge = |name: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    };
    gauge("masuka_jobs_pending", "Jobs that wait.", depth.waiting as f64);
    gauge("masuka_jobs_processing", "Jobs that run.", depth.running as f64);
    let processes = app.storage.processes().living().await?;
    let workers: Vec<_> = processes.iter().filter(|p| p.role == "worker").collect();
    gauge("masuka_workers", "Workers that live.", workers.len() as f64);
    let state = |process: &masuka_storage::entities::process::Model| {
        serde_json::from_str(&process.state).unwrap_or(json!({}))
    };
    let sum = |name: &str| -> f64 {
        workers.iter().filter_map(|process| state(process)[name].as_f64()).sum()
    };
    gauge("masuka_worker_jobs_done", "Jobs that the living workers have done.", sum("jobs_done"));
    gauge("masuka_worker_model_loads", "Base models that they have loaded.", sum("model_loads"));
    gauge("masuka_worker_lora_loads", "LoRA files that they have read.", sum("lora_loads"));
    gauge("masuka_worker_steps", "Sampler steps that they have done.", sum("steps"));
    gauge("masuka_worker_step_seconds", "Time that these steps took.", sum("step_seconds"));
    gauge("masuka_worker_job_seconds", "Time that these jobs took.", sum("job_seconds"));
    app.metrics.write(&mut text);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
