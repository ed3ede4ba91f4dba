//! Bodies, queries and path parts, with our own errors: 400 for what is no JSON, 422 with the field for what is not
//! accepted.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// The most that a JSON body may have: prompts are short.
pub(crate) const MAX_JSON_BYTES: usize = 1 << 20;

/// A JSON body.
pub(crate) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes = axum::body::to_bytes(request.into_body(), MAX_JSON_BYTES).await;
        let bytes = bytes.map_err(|error| {
            let is_limit = std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("limit"));
            match is_limit {
                true => {
                    ApiError::too_large(format!("the body is longer than {MAX_JSON_BYTES} bytes"))
                }
                false => ApiError::broken_body(&error),
            }
        })?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value: T = serde_path_to_error::deserialize(&mut json).map_err(refused)?;
        json.end().map_err(|e| ApiError::malformed(format!("the body is no JSON: {e}")))?;
        Ok(Self(value))
    }
}

/// Whether a request says that its body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let essence = content_type(headers);
    essence == "application/json" || essence.ends_with("+json")
}

/// The type of a body, without its parameters.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if is_json(headers) {
        return Ok(());
    }
    let essence = content_type(headers);
    let message = format!("content type `{essence}`; send `Content-Type: application/json`");
    Err(ApiError::unsupported_type(message))
}

/// No JSON at all, or JSON that does not fit.
fn refused(error: serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let path = error.path().to_string();
    let inner = error.into_inner();
    if !inner.is_data() {
        return ApiError::malformed(format!("the body is no JSON: {inner}"));
    }
    let message = inner.to_string();
    // serde tells of unknown and missing fields at the object that should have them.
    let named = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    let field = named.map_or(path.clone(), str::to_owned);
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    let message = if named.is_some() { message } else { format!("{field}: {message}") };
    ApiError::invalid(&field, message)
}

/// The part of a URL after `?`.
pub(crate) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(query) => Ok(Self(query.0)),
            Err(error) => {
                let message = std::error::Error::source(&error)
                    .map_or(error.to_string(), ToString::to_string);
                let field = message.split('`').nth(1).unwrap_or("query").to_owned();
                Err(ApiError::invalid(&field, message))
            }
        }
    }
}

/// An id in a path. Whatever it is, it is only looked up.
pub(crate) struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let id = path.map_err(|_| ApiError::not_found("not_found", "this id is no text"))?.0;
        // NUL is a character that PostgreSQL refuses in texts.
        if id.contains('\0') || id.len() > 200 {
            return Err(ApiError::not_found("not_found", "there is no such id"));
        }
        Ok(Self(id))
    }
}
