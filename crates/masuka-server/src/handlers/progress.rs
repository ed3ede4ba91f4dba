//! Streams of Server-Sent Events: stage changes without a gap, of steps the latest.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, once, poll_fn};
use masuka_storage::entities::{job, job_event};
use masuka_storage::events;
use masuka_storage::queue::JobStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use crate::app::{App, Links};
use crate::error::{ApiResult, Refusals};
use crate::event_pump::{Changed, Message, Step};
use crate::extract::Id;
use crate::views::generation::{ProgressNumbers, progress_numbers};
use crate::views::progress::{ProgressMessage, ServerEvent};
use crate::views::training::{SampleView, TrainingProgress, training_progress, training_status};

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
        Refusals,
    )
)]
pub(crate) async fn stream_job(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
    headers: HeaderMap,
) -> ApiResult<EventStream> {
    let messages = app.events.subscribe();
    let newest = events::latest_id(app.storage.database()).await?;
    let state = current_state(&app, &id).await?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    let since = last_event_id(&headers);
    let seen = since.unwrap_or(newest);
    let mut listener = Listener { app, telling: OneJob { state, links }, seen, sender };
    tokio::spawn(async move {
        if listener.greet(since.is_some(), newest).await.is_ok() {
            listener.run(messages).await;
        }
    });
    Ok(stream(receiver))
}

/// Watch everything
///
/// All state changes of all jobs from now on, or since `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/events", tag = "progress",
    responses(
        (status = 200, description = "Messages", body = ServerEvent, content_type = "text/event-stream"),
        Refusals,
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
    let mut listener = Listener { app, telling: Everything::default(), seen, sender };
    tokio::spawn(async move {
        if listener.catch_up().await.is_ok() {
            listener.run(messages).await;
        }
    });
    Ok(stream(receiver))
}

fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

fn stream(mut receiver: mpsc::Receiver<Event>) -> EventStream {
    // A proxy passes the head on only with the first byte, and without it no client knows that it is connected.
    let hello = once(ready(Ok(Event::default().comment("connected"))));
    let events = hello.chain(poll_fn(move |context| receiver.poll_recv(context)).map(Ok)).boxed();
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

/// The state of a picture or a training as its row tells it.
async fn current_state(app: &App, id: &str) -> ApiResult<ProgressMessage> {
    match app.storage.generations().find(id).await {
        Ok(found) => {
            let numbers = progress_numbers(&found.job, &found.spec()?)?;
            let status = found.job.status()?.public_name();
            Ok(message(found.job, status, numbers))
        }
        Err(masuka_storage::Error::NotFound { .. }) => {
            let found = app.storage.trainings().find(id).await?;
            let progress = training_progress(&found)?;
            let status = training_status(found.job.status()?, progress.training);
            let numbers = ProgressNumbers::from(&progress);
            let training = Some(progress.numbers);
            Ok(ProgressMessage { training, ..message(found.job, status, numbers) })
        }
        Err(error) => Err(error.into()),
    }
}

fn message(job: job::Model, status: &str, numbers: ProgressNumbers) -> ProgressMessage {
    let mut message = ProgressMessage {
        job_id: job.id,
        status: status.to_owned(),
        stage: None,
        progress: 0.0,
        current_step: 0,
        total_steps: 0,
        image: 0,
        images: 0,
        eta_seconds: None,
        preview_url: None,
        error_code: job.error_code,
        error_message: job.error_message,
        training: None,
        sample: None,
        checkpoint_step: None,
    };
    message.set_numbers(numbers);
    message
}

fn is_final(status: &str) -> bool {
    let finals = [JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled];
    status == "deleted" || finals.iter().any(|known| known.public_name() == status)
}

/// Why a stream ends: the client has gone, the state is final, or the server closes.
struct Ended;

/// What one client is told.
trait Telling: Send {
    /// The `data:` of its messages.
    type Data: Serialize + Send + Sync;

    /// The job that is watched, or all.
    fn job_id(&self) -> Option<&str>;

    /// The message of an event, and whether it is the last.
    fn event(&mut self, event: &job_event::Model) -> (&Self::Data, bool);

    /// The message of a step.
    fn step(&mut self, step: &Step) -> &Self::Data;

    /// The message of a change that is no job's, if it is of interest.
    fn change(&mut self, _changed: &Changed) -> Option<&Self::Data> {
        None
    }
}

/// Hears what happens and tells one client of it, each event once and in order.
struct Listener<T> {
    app: App,
    telling: T,
    /// The last event that was told.
    seen: i64,
    sender: mpsc::Sender<Event>,
}

impl<T: Telling> Listener<T> {
    async fn run(mut self, mut messages: Receiver<Message>) {
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
        let concerns = |job_id: &str| self.telling.job_id().is_none_or(|mine| mine == job_id);
        match message {
            Ok(message) if !concerns(message.job_id()) => Ok(()),
            Ok(Message::Event(event)) => self.tell(&event).await,
            Ok(Message::Step(step)) => send(&self.sender, None, self.telling.step(&step)).await,
            Ok(Message::Changed(changed)) => match self.telling.change(&changed) {
                Some(data) => send(&self.sender, None, data).await,
                None => Ok(()),
            },
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => Err(Ended),
        }
    }

    /// Tells all events after the last that was told.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        loop {
            let (database, job_id) = (self.app.storage.database(), self.telling.job_id());
            let page = events::since(database, self.seen, job_id, PAGE).await;
            let page = page.map_err(|_| Ended)?;
            for event in &page {
                self.tell(event).await?;
            }
            if (page.len() as u64) < PAGE {
                return Ok(());
            }
        }
    }

    async fn tell(&mut self, event: &job_event::Model) -> Result<(), Ended> {
        if event.id <= self.seen {
            return Ok(());
        }
        self.seen = event.id;
        let (data, is_last) = self.telling.event(event);
        send(&self.sender, Some(event.id), data).await?;
        if is_last { Err(Ended) } else { Ok(()) }
    }
}

/// Watches one job: every message holds the whole state.
struct OneJob {
    state: ProgressMessage,
    links: Links,
}

impl Telling for OneJob {
    type Data = ProgressMessage;

    fn job_id(&self) -> Option<&str> {
        Some(&self.state.job_id)
    }

    fn event(&mut self, event: &job_event::Model) -> (&ProgressMessage, bool) {
        let payload: Json = serde_json::from_str(&event.payload).unwrap_or_default();
        self.tell_made(&payload);
        if self.state.sample.is_none() && self.state.checkpoint_step.is_none() {
            self.tell_status(&payload);
        }
        let is_last = is_final(&self.state.status);
        (&self.state, is_last)
    }

    fn step(&mut self, step: &Step) -> &ProgressMessage {
        self.tell_made(&Json::Null);
        if self.state.training.is_none() {
            let numbers = serde_json::from_value(step.progress.clone());
            self.state.set_numbers(numbers.unwrap_or_default());
            return &self.state;
        }
        let progress = TrainingProgress::deserialize(&step.progress).unwrap_or_default();
        if progress.training {
            self.state.set_numbers(ProgressNumbers::from(&progress));
            self.state.training = Some(progress.numbers);
        }
        &self.state
    }
}

impl OneJob {
    /// Samples and checkpoints are told of once, in a message of their own.
    fn tell_made(&mut self, payload: &Json) {
        self.state.sample = SampleView::from_event(&payload["sample"], &self.links.refreshed());
        self.state.checkpoint_step = payload["checkpoint"]["step"].as_u64();
    }

    fn tell_status(&mut self, payload: &Json) {
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        let stage = text("stage");
        if let Some(status) = text("status") {
            self.state.status = self.own_word(status, stage.as_deref());
        }
        let state = &mut self.state;
        state.stage = stage;
        state.error_code = text("error_code");
        state.error_message = text("error_message");
        if state.status == JobStatus::Completed.public_name() {
            state.progress = 100.0;
            state.current_step = state.total_steps;
            state.image = state.images;
            state.eta_seconds = Some(0.0);
            state.preview_url = None;
        }
    }

    /// A training that runs is either preparing or training.
    fn own_word(&self, status: String, stage: Option<&str>) -> String {
        let runs = status == JobStatus::Running.public_name();
        match &self.state.training {
            Some(_) if runs => stage.unwrap_or("preparing").to_owned(),
            _ => status,
        }
    }
}

impl Listener<OneJob> {
    /// Repeats what a client missed, as it was then; then tells the state, which may be the last.
    async fn greet(&mut self, resumes: bool, newest: i64) -> Result<(), Ended> {
        if resumes {
            let numbers = self.telling.state.numbers();
            let unknown = ProgressNumbers { percent: 0.0, step: 0, image: 0, ..numbers.clone() };
            self.telling.state.set_numbers(unknown);
            self.catch_up().await?;
            self.telling.state.set_numbers(numbers);
        }
        send(&self.sender, Some(self.seen.max(newest)), &self.telling.state).await?;
        if is_final(&self.telling.state.status) { Err(Ended) } else { Ok(()) }
    }
}

/// Watches everything: every message is one event.
#[derive(Default)]
struct Everything {
    last: ServerEvent,
}

impl Telling for Everything {
    type Data = ServerEvent;

    fn job_id(&self) -> Option<&str> {
        None
    }

    fn event(&mut self, event: &job_event::Model) -> (&ServerEvent, bool) {
        self.last = ServerEvent {
            job_id: event.job_id.clone(),
            event: event.kind.clone(),
            details: serde_json::from_str(&event.payload).unwrap_or_default(),
        };
        (&self.last, false)
    }

    fn step(&mut self, step: &Step) -> &ServerEvent {
        self.last = ServerEvent {
            job_id: step.job_id.clone(),
            event: "step".into(),
            details: step.progress.clone(),
        };
        &self.last
    }

    fn change(&mut self, changed: &Changed) -> Option<&ServerEvent> {
        let Changed { what, details } = changed;
        let details = details.clone();
        self.last = ServerEvent { event: what.clone(), details, ..ServerEvent::default() };
        Some(&self.last)
    }
}

/// Returns once the server is about to end.
async fn closes(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closes| *closes).await);
}

async fn send(
    sender: &mpsc::Sender<Event>,
    id: Option<i64>,
    data: &impl Serialize,
) -> Result<(), Ended> {
    let event = Event::default().json_data(data).map_err(|_| Ended)?;
    let event = match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    };
    sender.send(event).await.map_err(|_| Ended)
}
