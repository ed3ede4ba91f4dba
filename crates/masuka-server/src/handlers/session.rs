//! The key as a cookie, for what sends no headers: `EventSource` and `<img>`.

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderName, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::Body;
use crate::guard::{COOKIE_NAME, is_key};

/// The server's key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    key: String,
}

/// Get the cookie
#[utoipa::path(
    post, path = "/api/login", tag = "service", request_body = Login,
    responses(
        (status = 204, description = "The cookie is set"),
        Refusals,
    )
)]
pub(crate) async fn log_in(
    State(app): State<App>,
    Body(login): Body<Login>,
) -> ApiResult<(StatusCode, [(HeaderName, String); 1])> {
    let fits = login.key.chars().all(|c| c.is_ascii_graphic() && !";,\"\\".contains(c));
    if !is_key(&app, &login.key) || !fits {
        return Err(ApiError::unauthorized());
    }
    let cookie = format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict", login.key);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]))
}
