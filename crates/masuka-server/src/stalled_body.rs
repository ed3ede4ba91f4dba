//! Bodies that stop coming: their requests end, so that neither connections nor half files stay. How long a body takes
//! that keeps coming is its client's affair.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio::time::{Sleep, sleep};

use crate::app::App;

/// The error of a body that came to no end.
#[derive(Debug)]
pub(crate) struct StalledBody {
    silence: Duration,
}

impl fmt::Display for StalledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.silence.as_secs();
        write!(f, "no byte of the body came for {seconds} s, and it is not complete; send it again")
    }
}

impl std::error::Error for StalledBody {}

/// Gives a request's body an error once it was silent for as long as the server waits.
pub(crate) async fn limit_silence(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let silence = app.options.client_silence;
    next.run(request.map(|body| limited(body, silence))).await
}

fn limited(body: Body, silence: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let mut chunks = body.into_data_stream();
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    Body::from_stream(stream::poll_fn(move |context| {
        // What came is looked at before the clock: the server may have been busy with the chunk before for longer.
        if let Poll::Ready(chunk) = chunks.poll_next_unpin(context) {
            timer = None;
            return Poll::Ready(chunk);
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(silence)));
        let stalled = |()| Some(Err(axum::Error::new(StalledBody { silence })));
        timer.as_mut().poll(context).map(stalled)
    }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Waker};

    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_server_that_was_busy_does_not_blame_its_client() {
        let silence = Duration::from_millis(5);
        let (client, mut sent) = mpsc::unbounded_channel();
        let body = stream::poll_fn(move |context| sent.poll_recv(context));
        let mut chunks = limited(Body::from_stream(body), silence).into_data_stream();
        let mut poll = || chunks.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        for _ in 0..3 {
            assert!(poll().is_pending(), "its silence begins anew after each chunk");
            sleep(4 * silence).await;
            client.send(Ok::<_, Infallible>(Bytes::from_static(b"x"))).unwrap();
            assert!(matches!(poll(), Poll::Ready(Some(Ok(_)))));
        }
        assert!(poll().is_pending());
        sleep(4 * silence).await;
        assert!(matches!(poll(), Poll::Ready(Some(Err(_)))));
    }
}
