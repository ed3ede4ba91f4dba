//! Streams of Server-Sent Events: stage changes without a gap, of steps the latest.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

mod encoded; // the bytes of a message, made once for all who are told the same
mod listener; // from the pump to one connection, each event once and in order
mod one_job; // a job's whole state with every message
mod everything; // all events as they are

pub(crate) use encoded::Encoded;
pub(crate) use everything::Everything;
pub(crate) use listener::{Listener, Start, Telling};
pub(crate) use one_job::OneJob;

/// The response that tells what `listener` hears, until it ends or the client goes.
pub(crate) fn respond<T: Telling + 'static>(listener: Listener<T>) -> Response {
    let chunks = unfold(listener, async |mut listener| {
        let chunk = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), listener))
    });
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(chunks)).into_response()
}
