//! Signed downloads, whole or in parts. The signature is the permission: no key is needed.

use std::ops::Range;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use masuka_storage::blobs::BlobKey;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::Query;
use crate::times;

/// Signature of a link.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Signature {
    /// Seconds since 1970.
    expires: i64,
    /// HMAC-SHA256 in hexadecimal.
    signature: String,
}

/// Download a file
///
/// The whole address comes with the job or the model. `Range: bytes=…` with one range is honoured.
#[utoipa::path(
    get, path = "/files/{*key}", tag = "service",
    params(("key" = String, Path, description = "The storage key"), Signature),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The part", body = Vec<u8>, content_type = "application/octet-stream"),
        Refusals,
    )
)]
pub(crate) async fn download(
    State(app): State<App>,
    key: Result<Path<String>, PathRejection>,
    Query(signature): Query<Signature>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let no_key = |_| ApiError::not_found("not_found", "this storage key is no text");
    let key = BlobKey::parse(&key.map_err(no_key)?)?;
    check(&app, &key, &signature)?;
    let etag = format!("\"{key}\""); // a key's content never changes
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known == Some(&etag) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let total = app.storage.blobs().size(&key).await?;
    let total =
        total.ok_or_else(|| ApiError::not_found("not_found", format!("file `{key}` is gone")))?;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = asked.map(|text| parse_range(text, total)).transpose()?.flatten();
    let file = app.storage.blobs().stream(&key, range.clone()).await?;
    let mut response = Response::new(Body::from_stream(file.bytes));
    let sent = file.range;
    let set = response.headers_mut();
    let text = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    set.insert(header::CONTENT_TYPE, HeaderValue::from_static(key.content_type()));
    set.insert(header::CONTENT_LENGTH, text((sent.end - sent.start).to_string()));
    set.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    set.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=900"));
    set.insert(header::ETAG, text(etag));
    let name = key.as_str().rsplit('/').next().unwrap_or_default();
    set.insert(header::CONTENT_DISPOSITION, text(format!("inline; filename=\"{name}\"")));
    if range.is_some() {
        let part = format!("bytes {}-{}/{total}", sent.start, sent.end.saturating_sub(1));
        set.insert(header::CONTENT_RANGE, text(part));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn check(app: &App, key: &BlobKey, given: &Signature) -> ApiResult<()> {
    if !app.storage.signer().is_valid(key, given.expires, &given.signature) {
        let message = "this signature does not belong to this file; take the whole address from the job or model";
        return Err(ApiError::forbidden("signature_invalid", message));
    }
    if given.expires < times::now_seconds() {
        let message = "this address has expired; fetch the job or the model again for a fresh one";
        return Err(ApiError::forbidden("url_expired", message));
    }
    Ok(())
}

/// The one range of `bytes=…`; several, or another unit, count as none, which HTTP allows.
fn parse_range(text: &str, total: u64) -> ApiResult<Option<Range<u64>>> {
    let Some(spec) = text.strip_prefix("bytes=").filter(|spec| !spec.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Ok(None) };
    let number = |text: &str| text.parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..total.min(last.saturating_add(1)),
        (Some(first), None) if last.is_empty() => first..total,
        (None, Some(count)) if first.is_empty() => total.saturating_sub(count)..total,
        _ => return Ok(None),
    };
    if range.start < range.end {
        return Ok(Some(range));
    }
    Err(ApiError::range(format!("range `{text}` lies outside of the file's {total} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        let check = |text: &str, expected: Option<Range<u64>>| {
            assert_eq!(parse_range(text, 100).unwrap(), expected, "{text}");
        };
        check("bytes=0-9", Some(0..10));
        check("bytes=90-", Some(90..100));
        check("bytes=-10", Some(90..100));
        check("bytes=-1000", Some(0..100));
        check("bytes=50-1000", Some(50..100));
        check("bytes=0-18446744073709551615", Some(0..100));
        for ignored in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-1", "bytes=x-y", "bytes=-", "bytes"]
        {
            check(ignored, None);
        }
        for outside in ["bytes=100-", "bytes=200-300", "bytes=-0"] {
            assert!(parse_range(outside, 100).is_err(), "{outside}");
        }
    }
}
