//! What can go wrong, as HTTP: the only place where an error becomes a status.

use std::error::Error;
use std::io::ErrorKind;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use masuka_storage::Error as StorageError;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::stalled_body::StalledBody;
use crate::views::install::InstallView;

/// The code of a base model that is on its way.
const MODEL_LOADING: &str = "model_loading";
/// After how many seconds a client may try again when the queue is full or a model is on its way.
const RETRY_AFTER_SECONDS: &str = "10";

/// The result of every handler.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// An error with its status.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    field: Option<String>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
    /// The message again, for clients of the original service.
    #[schema(example = "width 1000 is not a multiple of 16")]
    detail: String,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// For programs.
    #[schema(example = "invalid_value")]
    pub(crate) code: &'static str,
    /// For people: what, with which value, and what to do.
    #[schema(example = "width 1000 is not a multiple of 16")]
    pub(crate) message: String,
    /// The field at fault.
    #[schema(example = "width")]
    field: Option<String>,
}

/// The refusals that every route may answer with, for the OpenAPI document.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes errors to OpenAPI")]
pub(crate) enum Refusals {
    /// Refused; the message says what to change.
    #[response(status = "4XX")]
    Client(ErrorBody),
    /// Not at the moment, or not at all; the message says why.
    #[response(status = "5XX")]
    Server(ErrorBody),
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), field: None }
    }

    /// 400: what was sent is no request.
    pub(crate) fn malformed(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// 408 for a body that stopped coming, 400 for one that broke off or is none.
    pub(crate) fn broken_body(error: &(dyn Error + 'static)) -> Self {
        let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
        match causes.find_map(|cause| cause.downcast_ref::<StalledBody>()) {
            Some(stalled) => Self::new(StatusCode::REQUEST_TIMEOUT, "body_stalled", stalled),
            None => Self::malformed(format!("the body cannot be read: {error}")),
        }
    }

    /// 401: no key, or another.
    pub(crate) fn unauthorized() -> Self {
        let message = "this server needs its key: send `Authorization: Bearer …`, or log in with POST /api/login";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: not from there, or not any more.
    pub(crate) fn forbidden(code: &'static str, message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 404: nothing has this name.
    pub(crate) fn not_found(code: &'static str, message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 405: the path is known, the method is not.
    pub(crate) fn method_not_allowed() -> Self {
        let message = "this path does not answer to this method; see /docs";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 409: not as things are.
    pub(crate) fn conflict(code: &'static str, message: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 413: more than is accepted.
    pub(crate) fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 415: another kind of content.
    pub(crate) fn unsupported_type(message: impl ToString) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", message)
    }

    /// 416: no such part of the file.
    pub(crate) fn range(message: impl ToString) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message)
    }

    /// 422: a value that is not accepted; the message begins with the field and its value.
    pub(crate) fn invalid(field: &str, message: impl ToString) -> Self {
        let error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", message);
        Self { field: Some(field.to_owned()), ..error }
    }

    /// 501: known, but this installation cannot do it.
    pub(crate) fn not_implemented(code: &'static str, message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, code, message)
    }

    /// The same about another field.
    pub(crate) fn at(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    /// What a body says of it.
    pub(crate) fn into_detail(self) -> ErrorDetail {
        ErrorDetail { code: self.code, message: self.message, field: self.field }
    }

    /// 503: the base model is on its way to this server.
    pub(crate) fn model_loading(view: &InstallView) -> Self {
        let percent = 100.0 * view.bytes as f64 / view.total_bytes.max(1) as f64;
        let message = format!(
            "base model `{}` is still loading: {percent:.0} % of {:.1} GiB have arrived; ask again when it is in \
             GET /api/models/base",
            view.id,
            view.total_bytes as f64 / f64::from(1 << 30)
        );
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, MODEL_LOADING, message);
        Self { field: Some("base_model".into()), ..error }
    }

    /// 503: not at the moment.
    pub(crate) fn unavailable(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        match error {
            StorageError::NotFound { what: "model", id } => {
                let message =
                    format!("Model not found: `{id}`; see /api/models/ for those that are there");
                let error = Self::not_found("model_not_found", message);
                Self { field: Some("model_id".into()), ..error }
            }
            StorageError::NotFound { what: "base model", id } => {
                let message = format!(
                    "base model `{id}` is not installed; see /api/models/base for those that are"
                );
                let error = Self::not_found("base_model_not_found", message);
                Self { field: Some("base_model".into()), ..error }
            }
            StorageError::NotFound { .. } => Self::not_found("not_found", message),
            StorageError::BlobKey(_) => Self::not_found("not_found", message),
            StorageError::WrongState { .. } => {
                Self::new(StatusCode::CONFLICT, "wrong_state", message)
            }
            StorageError::ModelInUse(_) => Self::new(StatusCode::CONFLICT, "model_in_use", message),
            StorageError::BaseModelNeeded { .. } => {
                Self::new(StatusCode::CONFLICT, "model_in_use", message)
            }
            StorageError::FilesElsewhere { .. } => {
                Self::new(StatusCode::CONFLICT, "files_elsewhere", message)
            }
            StorageError::BeingDownloaded(_) => {
                Self::new(StatusCode::CONFLICT, "install_running", message)
            }
            StorageError::DatasetInUse(_) => {
                Self::new(StatusCode::CONFLICT, "dataset_in_use", message)
            }
            StorageError::QueueFull { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
            }
            StorageError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                tracing::error!("{message}");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", source)
            }
            StorageError::Database(_) | StorageError::Blob(_) | StorageError::Io { .. } => {
                tracing::error!("{message}");
                let message = "the database or the storage does not answer; see GET /ready and the server's log";
                Self::unavailable(message)
            }
            StorageError::Download { .. } => {
                let error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "download_failed", message);
                Self { field: Some("url".into()), ..error }
            }
            StorageError::Damaged { .. } => {
                tracing::error!("{message}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "file_damaged", message)
            }
            StorageError::Corrupt { .. } | StorageError::Config(_) | StorageError::Stopped => {
                tracing::error!("{message}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, field } = self;
        let body =
            ErrorBody { detail: message.clone(), error: ErrorDetail { code, message, field } };
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS || code == MODEL_LOADING {
            let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // The rest of the body may still come, and is no request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
