//! Who may ask: the key of the server, and pages of this server only. A page elsewhere must not reach a server on
//! the user's own machine, neither by a form (`Origin`) nor by a name that points here (`Host`).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use crate::app::App;
use crate::error::ApiError;

/// The cookie that `POST /api/login` sets.
pub(crate) const COOKIE_NAME: &str = "masuka_key";

/// Lets a request pass, or says why not.
pub(crate) async fn guard(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check_host(&app, request.headers())?;
    check_origin(&app, request.headers())?;
    let path = request.uri().path();
    let needs_key = ["/api/", "/v1/", "/sdapi/"].iter().any(|start| path.starts_with(start));
    if needs_key && path != "/api/login" && !has_key(&app, request.headers()) {
        return Err(ApiError::unauthorized());
    }
    Ok(next.run(request).await)
}

/// The ways to show the key; a server without one asks for none.
pub(crate) fn describe(document: &mut OpenApi) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let bearer = bearer.description(Some("The server's MASUKA_API_KEY, if it has one.")).build();
    let cookie = ApiKeyValue::with_description(COOKIE_NAME, "What POST /api/login sets.");
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", SecurityScheme::Http(bearer));
    components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    let needs = |name: &str| SecurityRequirement::new(name, [""; 0]);
    document.security = Some(vec![SecurityRequirement::default(), needs("key"), needs("cookie")]);
}

/// Whether `given` is the server's key; in constant time.
pub(crate) fn is_key(app: &App, given: &str) -> bool {
    let Some(key) = &app.options.api_key else { return true };
    Sha256::digest(key.expose()).ct_eq(&Sha256::digest(given)).into()
}

fn has_key(app: &App, headers: &HeaderMap) -> bool {
    if app.options.api_key.is_none() {
        return true;
    }
    let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let cookies = text(headers, &COOKIE).into_iter().flat_map(|value| value.split(';'));
    let cookie = cookies.filter_map(|part| part.trim().split_once('='));
    let cookie = cookie.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value);
    bearer.into_iter().chain(cookie).any(|given| is_key(app, given.trim()))
}

/// Addresses cannot be rebound; names must be known.
fn check_host(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(host) = text(headers, &HOST) else { return Ok(()) };
    let name = host_name(host);
    if is_address(name) || is_local(name) || app.options.allowed_hosts.iter().any(|h| h == name) {
        return Ok(());
    }
    let public = app.options.public_url.as_deref().and_then(url_host).map(host_name);
    if public == Some(name) {
        return Ok(());
    }
    let message = format!("host `{name}` is not known; allow it with MASUKA_ALLOWED_HOSTS={name}");
    Err(ApiError::forbidden("host_not_allowed", message))
}

/// A browser names the page that asks; it must be ours or allowed.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = text(headers, &ORIGIN) else { return Ok(()) };
    let is_own = url_host(origin).is_some_and(|host| Some(host) == text(headers, &HOST));
    let public = app.options.public_url.as_deref().and_then(url_host);
    let is_public = public.is_some() && url_host(origin) == public;
    let is_allowed = app.options.cors_origins.iter().any(|o| o == "*" || o == origin);
    if is_own || is_public || is_allowed {
        return Ok(());
    }
    let message = format!("origin `{origin}` is not allowed; allow it with CORS_ORIGINS={origin}");
    Err(ApiError::forbidden("origin_not_allowed", message))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Host and port of a URL.
fn url_host(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default())
}

/// `host:port` without the port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}
