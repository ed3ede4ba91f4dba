//! Every route, on one page.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::app::{App, ServerOptions};
use crate::error::{ApiError, ErrorBody};
use crate::handlers::{
    archive, base_models, dataset_images, datasets, files, generations, import, installs, models,
    page, progress, queue, service, session, trainings,
};
use crate::{examples, guard, stalled_body, telemetry};

/// The document's head; paths and schemas come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(title = "MASUKA", description = "A self-hosted AI studio: pictures and LoRA by FLUX.1."),
    components(schemas(ErrorBody))
)]
struct Document;

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        // Pictures
        .routes(routes!(generations::create_generation))
        .routes(routes!(generations::create_video))
        .routes(routes!(generations::list_generations))
        .routes(routes!(
            generations::get_generation,
            generations::update_generation,
            generations::delete_generation
        ))
        .routes(routes!(generations::cancel_generation))
        .routes(routes!(generations::retry_generation))
        .routes(routes!(generations::restore_generation))
        .routes(routes!(archive::archive))
        .routes(routes!(service::tokenize))
        // Progress
        .routes(routes!(progress::stream_job))
        .routes(routes!(progress::stream_events))
        // Models
        .routes(routes!(models::list_models))
        .routes(routes!(import::import_model))
        .routes(routes!(models::get_model, models::update_model, models::delete_model))
        .routes(routes!(models::export_model))
        .routes(routes!(base_models::list_base_models))
        .routes(routes!(base_models::update_base_model, base_models::remove_base_model))
        .routes(routes!(installs::list_installs, installs::install_base_model))
        .routes(routes!(installs::stop_install))
        // Datasets
        .routes(routes!(datasets::create_dataset))
        .routes(routes!(datasets::list_datasets))
        .routes(routes!(datasets::get_dataset, datasets::delete_dataset))
        .routes(routes!(dataset_images::upload))
        .routes(routes!(dataset_images::list_images))
        .routes(routes!(dataset_images::update_image, dataset_images::delete_image))
        .routes(routes!(dataset_images::caption_images))
        // Training
        .routes(routes!(trainings::create_training))
        .routes(routes!(trainings::create_video_training))
        .routes(routes!(trainings::list_trainings))
        .routes(routes!(trainings::get_training, trainings::delete_training))
        .routes(routes!(trainings::get_loss))
        .routes(routes!(trainings::cancel_training))
        .routes(routes!(trainings::pause_training))
        .routes(routes!(trainings::resume_training))
        .routes(routes!(trainings::save_training))
        // Queue
        .routes(routes!(queue::get_queue))
        .routes(routes!(queue::pause_queue))
        .routes(routes!(queue::resume_queue))
        .routes(routes!(queue::update_job))
        .routes(routes!(queue::get_job_log))
        // Service
        .routes(routes!(session::log_in))
        .routes(routes!(service::get_system))
        .routes(routes!(service::health))
        .routes(routes!(service::ready))
        .routes(routes!(service::metrics))
        .routes(routes!(files::download))
}

/// The OpenAPI document of all routes.
pub fn open_api() -> utoipa::openapi::OpenApi {
    complete(documented().into_openapi())
}

/// With examples, with the ways to show the key, and with parameters in braces, of which none takes the rest of a path.
fn complete(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    examples::show(&mut document);
    guard::describe(&mut document);
    if let Some(item) = document.paths.paths.remove("/files/{*key}") {
        document.paths.paths.insert("/files/{key}".into(), item);
    }
    document
}

/// All routes with what stands around them.
pub(crate) fn router(app: App) -> Router {
    let (router, document) = documented().split_for_parts();
    let cors = cors(&app.options);
    let inner = router
        .merge(SwaggerUi::new("/docs").url("/openapi.json", complete(document)))
        .fallback(page::serve)
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::disable()) // each extractor has its own
        .layer(middleware::from_fn_with_state(app.clone(), stalled_body::limit_silence))
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(cors)
        .layer(set_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(set_header(header::REFERRER_POLICY, "no-referrer"))
        .layer(set_header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(middleware::from_fn_with_state(app.clone(), telemetry::record))
        .with_state(app);
    // Around the routes, so that it works before they are chosen.
    Router::new().fallback_service(inner).layer(middleware::from_fn(trim_slash))
}

fn set_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

fn cors(options: &ServerOptions) -> CorsLayer {
    let layer =
        CorsLayer::new().allow_methods(Any).allow_headers(Any).expose_headers([header::LINK]);
    if options.cors_origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(Any);
    }
    let origins = options.cors_origins.iter().filter_map(|origin| origin.parse().ok());
    layer.allow_origin(AllowOrigin::list(origins.collect::<Vec<_>>()))
}

/// Each path answers with and without its trailing slash; `/docs` needs its own.
async fn trim_slash(mut request: Request, next: Next) -> Response {
    let uri = request.uri();
    let path = uri.path();
    if path.len() > 1 && path.ends_with('/') && !path.starts_with("/docs") {
        let trimmed = path.trim_end_matches('/');
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        if let Ok(uri) = format!("{trimmed}{query}").parse::<Uri>() {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}
