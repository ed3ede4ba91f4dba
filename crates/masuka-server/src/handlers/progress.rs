//! Streams of Server-Sent Events: stage changes without a gap, of steps the latest.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, poll_fn};
use masuka_storage::entities::job_event;
use masuka_storage::events;
use masuka_storage::queue::JobStatus;
use serde_json::Value as Json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use crate::app::App;
use crate::error::{ApiResult, ErrorBody};
use crate::event_pump::Message;
use crate::extract::Id;
use crate::views::generation::{ProgressNumbers, progress_numbers};
use crate::views::progress::{ProgressMessage, ServerEvent};

/// Shorter than the 15 seconds that are promised.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Messages between the listener's task and its connection; a client that reads too slowly waits here.
const BUFFER: usize = 16;
const PAGE: u64 = 500;

type EventStream = Sse<KeepAliveStream<BoxStream<'static, Result<Event, Infallible>>>>;

/// Watch a job
///
/// The current state comes first; the stream ends after the final state. With `Last-Event-ID` the stage changes since
/// then are repeated.
#[utoipa::path(
    get, path = "/api/progress/stream/{id}", tag = "progress",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "Messages", body = ProgressMessage, content_type = "text/event-stream"),
        (status = "4XX", description = "Unknown", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn stream_job(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<EventStream> {
    let messages = app.events.subscribe();
    let newest = events::latest_id(app.storage.database()).await?;
    let state = current_state(&app, &id).await?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    let since = last_event_id(&headers);
    let listener = JobListener { app, state, seen: since.unwrap_or(newest), sender };
    tokio::spawn(listener.run(messages, since.is_some(), newest));
    Ok(stream(receiver))
}

/// Watch everything
///
/// All state changes of all jobs from now on, or since `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/events", tag = "progress",
    responses(
        (status = 200, description = "Messages", body = ServerEvent, content_type = "text/event-stream"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Not at the moment", body = ErrorBody),
    )
)]
pub(crate) async fn stream_events(
    State(app): State<App>,
    headers: HeaderMap,
) -> ApiResult<EventStream> {
    let messages = app.events.subscribe();
    let newest = events::latest_id(app.storage.database()).await?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    let seen = last_event_id(&headers).unwrap_or(newest);
    tokio::spawn(AllListener { app, seen, sender }.run(messages));
    Ok(stream(receiver))
}

fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

fn stream(mut receiver: mpsc::Receiver<Event>) -> EventStream {
    let events = poll_fn(move |context| receiver.poll_recv(context)).map(Ok).boxed();
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

/// The state of a job as its row tells it.
async fn current_state(app: &App, id: &str) -> ApiResult<ProgressMessage> {
    let found = app.storage.generations().find(id).await?;
    let numbers = progress_numbers(&found)?;
    let mut state = ProgressMessage {
        job_id: id.to_owned(),
        status: found.job.status()?.public_name().to_owned(),
        stage: None,
        progress: 0.0,
        current_step: 0,
        total_steps: 0,
        image: 0,
        images: 0,
        eta_seconds: None,
        preview_url: None,
        error_code: found.job.error_code,
        error_message: found.job.error_message,
    };
    state.set_numbers(numbers);
    Ok(state)
}

fn is_final(status: &str) -> bool {
    let finals = [JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled];
    status == "deleted" || finals.iter().any(|known| known.public_name() == status)
}

/// Why a stream ends: the client has gone, the state is final, or the server closes.
struct Ended;

/// Watches one job for one client.
struct JobListener {
    app: App,
    state: ProgressMessage,
    seen: i64,
    sender: mpsc::Sender<Event>,
}

impl JobListener {
    async fn run(mut self, mut messages: Receiver<Message>, resumes: bool, newest: i64) {
        if resumes {
            let numbers = self.state.numbers();
            self.state.set_numbers(ProgressNumbers {
                percent: 0.0,
                step: 0,
                image: 0,
                ..numbers.clone()
            });
            if self.catch_up().await.is_err() {
                return;
            }
            self.state.set_numbers(numbers);
        }
        let id = self.seen.max(newest);
        if self.send(Some(id)).await.is_err() || is_final(&self.state.status) {
            return;
        }
        let mut closing = self.app.closing.clone();
        loop {
            let sent = tokio::select! {
                message = messages.recv() => self.hear(message).await,
                () = self.sender.closed() => return,
                () = closes(&mut closing) => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn hear(&mut self, message: Result<Message, RecvError>) -> Result<(), Ended> {
        match message {
            Ok(message) if message.job_id() != self.state.job_id => Ok(()),
            Ok(Message::Event(event)) => self.tell(&event).await,
            Ok(Message::Step(step)) => {
                self.state
                    .set_numbers(serde_json::from_value(step.progress.clone()).unwrap_or_default());
                self.send(None).await
            }
            Ok(Message::Changed(_)) => Ok(()),
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => Err(Ended),
        }
    }

    /// Tells all events after the last that was told.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        let id = self.state.job_id.clone();
        loop {
            let page = events::since(self.app.storage.database(), self.seen, Some(&id), PAGE).await;
            let page = page.map_err(|_| Ended)?;
            let is_last = (page.len() as u64) < PAGE;
            for event in &page {
                self.tell(event).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn tell(&mut self, event: &job_event::Model) -> Result<(), Ended> {
        if event.id <= self.seen {
            return Ok(());
        }
        self.seen = event.id;
        let payload: Json = serde_json::from_str(&event.payload).unwrap_or_default();
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        if let Some(status) = text("status") {
            self.state.status = status;
        }
        self.state.stage = text("stage");
        self.state.error_code = text("error_code");
        self.state.error_message = text("error_message");
        if self.state.status == JobStatus::Completed.public_name() {
            self.state.progress = 100.0;
            self.state.current_step = self.state.total_steps;
            self.state.image = self.state.images;
            self.state.eta_seconds = Some(0.0);
        }
        self.send(Some(event.id)).await?;
        if is_final(&self.state.status) { Err(Ended) } else { Ok(()) }
    }

    async fn send(&self, id: Option<i64>) -> Result<(), Ended> {
        send(&self.sender, id, &self.state).await
    }
}

/// Watches everything for one client.
struct AllListener {
    app: App,
    seen: i64,
    sender: mpsc::Sender<Event>,
}

impl AllListener {
    async fn run(mut self, mut messages: Receiver<Message>) {
        if self.catch_up().await.is_err() {
            return;
        }
        let mut closing = self.app.closing.clone();
        loop {
            let sent = tokio::select! {
                message = messages.recv() => self.hear(message).await,
                () = self.sender.closed() => return,
                () = closes(&mut closing) => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn hear(&mut self, message: Result<Message, RecvError>) -> Result<(), Ended> {
        match message {
            Ok(Message::Event(event)) => self.tell(&event).await,
            Ok(Message::Step(step)) => {
                let event = ServerEvent {
                    job_id: step.job_id.clone(),
                    event: "step".into(),
                    details: step.progress.clone(),
                };
                send(&self.sender, None, &event).await
            }
            Ok(Message::Changed(what)) => {
                let event = ServerEvent {
                    job_id: String::new(),
                    event: what.to_string(),
                    details: Json::Null,
                };
                send(&self.sender, None, &event).await
            }
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => Err(Ended),
        }
    }

    async fn catch_up(&mut self) -> Result<(), Ended> {
        loop {
            let page = events::since(self.app.storage.database(), self.seen, None, PAGE).await;
            let page = page.map_err(|_| Ended)?;
            let is_last = (page.len() as u64) < PAGE;
            for event in &page {
                self.tell(event).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn tell(&mut self, event: &job_event::Model) -> Result<(), Ended> {
        if event.id <= self.seen {
            return Ok(());
        }
        self.seen = event.id;
        let told = ServerEvent {
            job_id: event.job_id.clone(),
            event: event.kind.clone(),
            details: serde_json::from_str(&event.payload).unwrap_or_default(),
        };
        send(&self.sender, Some(event.id), &told).await
    }
}

/// Returns once the server is about to end.
async fn closes(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closes| *closes).await);
}

async fn send(
    sender: &mpsc::Sender<Event>,
    id: Option<i64>,
    data: &impl serde::Serialize,
) -> Result<(), Ended> {
    let event = Event::default().json_data(data).map_err(|_| Ended)?;
    let event = match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    };
    sender.send(event).await.map_err(|_| Ended)
}
