//! The web page: the files of `web/dist`, part of the binary. Every address that is none of the interface's own shows
//! the page, which knows its own addresses.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use masuka_storage::Link;
use masuka_storage::blobs::BlobKey;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::app::App;
use crate::error::ApiError;

/// Where the interface's own addresses begin: what is unknown there is an error, never the page.
const NOT_THE_PAGE: [&str; 6] = ["/api", "/v1", "/sdapi", "/files", "/docs", "/assets"];
/// Names under `assets/` hold a hash of their content.
const FOREVER: &str = "public, max-age=31536000, immutable";
const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>MASUKA</title>\
    <p>MASUKA is running, but its page is not part of this build: run <code>scripts/build-web</code> and build again. \
    The interface is described at <a href=/docs/>/docs</a>.";

/// What `npm run build` makes of `web/`; in debug builds it is read from there at each request.
#[derive(RustEmbed)]
#[folder = "../../web/dist"]
struct Bundle;

/// A file of the page, the page itself, or what is unknown.
pub(crate) async fn serve(
    State(app): State<App>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let path = uri.path();
    let name = path.trim_start_matches('/');
    let is_read = method == Method::GET || method == Method::HEAD;
    if is_read && let Some(file) = Bundle::get(name).filter(|_| name != "index.html") {
        return Ok(asset(name, file, &headers));
    }
    let is_elsewhere = NOT_THE_PAGE.into_iter().any(|start| is_under(path, start));
    if !is_read || is_elsewhere || name.contains('.') {
        let message = format!("there is nothing at `{path}`; see /docs");
        return Err(ApiError::not_found("unknown_path", message));
    }
    let Some(file) = Bundle::get("index.html") else {
        return Ok((StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)).into_response());
    };
    let mut response = asset("index.html", file, &headers);
    let policy = content_policy([app.options.public_url.as_deref(), elsewhere(&app).as_deref()]);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

fn is_under(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Compressed where the client takes it and the build has made it.
fn asset(name: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = file.metadata.sha256_hash().into_iter().map(|byte| format!("{byte:02x}"));
    let etag = format!("\"{}\"", etag.collect::<String>());
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let packed = text(header::ACCEPT_ENCODING)
        .contains("br")
        .then(|| Bundle::get(&format!("{name}.br")))
        .flatten();
    let mut response = match text(header::IF_NONE_MATCH) == etag {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(packed.as_ref().map_or(file.data, |packed| packed.data.clone()))
            .into_response(),
    };
    let set = response.headers_mut();
    let caching = if name.starts_with("assets/") { FOREVER } else { "no-cache" };
    set.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    set.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if packed.is_some() {
        set.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    if let Ok(etag) = etag.parse() {
        set.insert(header::ETAG, etag);
    }
    response
}

/// Where files are fetched, if not from here.
fn elsewhere(app: &App) -> Option<String> {
    match app.storage.link(&BlobKey::parse("probe/page").ok()?, 0) {
        Link::Elsewhere(url) => Some(url),
        Link::Here(_) => None,
    }
}

/// What the page may load: its own files, and pictures by the server's public address and from the bucket.
fn content_policy(addresses: [Option<&str>; 2]) -> HeaderValue {
    let origins = addresses.into_iter().flatten().filter_map(origin);
    let public: String = origins.map(|origin| format!(" {origin}")).collect();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; \
         img-src 'self' blob: data:{public}; connect-src 'self'{public}; worker-src 'self'; \
         manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    policy.parse().unwrap_or(HeaderValue::from_static("default-src 'self'"))
}

/// `scheme://host:port` of a URL, where it holds nothing that could end the policy's list.
fn origin(url: &str) -> Option<&str> {
    let after = url.find("://")? + 3;
    let end = url[after..].find('/').map_or(url.len(), |slash| after + slash);
    Some(&url[..end]).filter(|origin| !origin.contains([' ', ';', ',', '\'']))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_parts_of_an_address_count() {
        assert!(is_under("/api", "/api") && is_under("/api/x", "/api"));
        assert!(!is_under("/apiary", "/api") && !is_under("/", "/api"));
    }

    #[test]
    fn the_policy_names_the_public_address_and_nothing_that_breaks_it() {
        let check = |url: Option<&str>, expected: &str| {
            let policy = content_policy([url, None]).to_str().unwrap().to_owned();
            assert!(policy.contains(expected), "{policy}");
        };
        check(Some("https://studio.example:8443/x"), "data: https://studio.example:8443;");
        check(Some("https://a;script-src *"), "data:;");
        check(None, "img-src 'self' blob: data:; connect-src 'self';");
        let bucket = content_policy([None, Some("https://r2.example/bucket/x?signed")]);
        assert!(
            bucket.to_str().unwrap().contains("img-src 'self' blob: data: https://r2.example;")
        );
    }
}
