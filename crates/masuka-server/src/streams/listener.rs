//! One connection's ear: what the pump says and the database remembers, each event once and in order. It is driven by
//! the connection, so that a client that reads too slowly waits here and of steps finds the latest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use masuka_storage::events;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::App;
use crate::error::ApiResult;
use crate::event_pump::{Changed, Event, Message, Step};

/// Shorter than the 15 seconds that are promised.
const HEARTBEAT: Duration = Duration::from_secs(10);
const PAGE: u64 = 500;

/// What one client is told.
pub(crate) trait Telling: Send + Sync {
    /// The job that is watched, or all.
    fn job_id(&self) -> Option<&str>;

    /// The message of an event, and whether it is the last.
    fn event(&mut self, event: &Event) -> (Bytes, bool);

    /// The message of a step.
    fn step(&mut self, step: &Step) -> Bytes;

    /// The message of a change that is no job's, if it is of interest.
    fn change(&mut self, _changed: &Changed) -> Option<Bytes> {
        None
    }

    /// The message that follows what was missed, under the `id` to resume from, and whether it is the last.
    fn greeting(&mut self, _id: i64) -> Option<(Bytes, bool)> {
        None
    }
}

/// Where a stream begins.
pub(crate) struct Start {
    messages: Receiver<Message>,
    /// The newest event as it began.
    newest: i64,
    /// `Last-Event-ID`.
    since: Option<i64>,
}

impl Start {
    /// Here. Whoever reads the database afterwards misses nothing.
    ///
    /// # Errors
    /// When the database is gone.
    pub(crate) async fn now(app: &App, headers: &HeaderMap) -> ApiResult<Self> {
        let messages = app.events.subscribe();
        let newest = events::latest_id(app.storage.database()).await?;
        let since = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        Ok(Self { messages, newest, since })
    }

    /// Whether the client was there before.
    pub(crate) fn resumes(&self) -> bool {
        self.since.is_some()
    }
}

/// Hears what happens and tells one client of it.
pub(crate) struct Listener<T> {
    app: App,
    telling: T,
    messages: Receiver<Message>,
    /// Was heard behind steps that were passed over.
    heard: Option<Result<Message, RecvError>>,
    closing: watch::Receiver<bool>,
    /// The last event that was told.
    seen: i64,
    newest: i64,
    /// Whether the client was there before.
    resumes: bool,
    is_greeted: bool,
    to_tell: VecDeque<Bytes>,
    /// When the client was last told something.
    quiet_since: Instant,
    is_over: bool,
}

/// Why a stream ends: the final state is told, the server closes, or the database is gone.
struct Ended;

impl<T: Telling> Listener<T> {
    pub(crate) fn new(app: App, start: Start, telling: T) -> Self {
        let Start { messages, newest, since } = start;
        // A proxy passes the head on only with the first byte, and without it no client knows that it is connected.
        let hello = Bytes::from_static(b": connected\n\n");
        Self {
            closing: app.closing.clone(),
            app,
            telling,
            messages,
            heard: None,
            seen: since.unwrap_or(newest),
            newest,
            resumes: since.is_some(),
            is_greeted: false,
            to_tell: VecDeque::from([hello]),
            quiet_since: Instant::now(),
            is_over: false,
        }
    }

    /// What the client is told next; nothing when the stream is over.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        while self.to_tell.is_empty() && !self.is_over {
            self.is_over = self.advance().await.is_err();
        }
        self.quiet_since = Instant::now();
        self.to_tell.pop_front()
    }

    async fn advance(&mut self) -> Result<(), Ended> {
        if !self.is_greeted {
            self.is_greeted = true;
            return self.greet().await;
        }
        if let Some(message) = self.heard.take() {
            return self.hear(message).await;
        }
        let message = tokio::select! {
            message = self.messages.recv() => message,
            _ = self.closing.wait_for(|closes| *closes) => return Err(Ended),
            // Counted from what the client saw: messages that are none of its business come all the time.
            () = tokio::time::sleep_until(self.quiet_since + HEARTBEAT) => {
                self.to_tell.push_back(Bytes::from_static(b":\n\n"));
                return Ok(());
            }
        };
        self.hear(message).await
    }

    /// Repeats what a client missed, as it was then; then tells the state, which may be the last.
    async fn greet(&mut self) -> Result<(), Ended> {
        if self.resumes {
            self.catch_up().await?;
        }
        match self.telling.greeting(self.seen.max(self.newest)) {
            Some((message, is_last)) => self.tell(message, is_last),
            None => Ok(()),
        }
    }

    async fn hear(&mut self, message: Result<Message, RecvError>) -> Result<(), Ended> {
        let concerns = |job_id: &str| self.telling.job_id().is_none_or(|mine| mine == job_id);
        match message {
            Ok(message) if !concerns(message.job_id()) => Ok(()),
            Ok(Message::Event(event)) => self.tell_event(&event),
            Ok(Message::Step(step)) => {
                let mut latest = step;
                while let Some(newer) = self.newer(&latest) {
                    latest = newer;
                }
                let message = self.telling.step(&latest);
                self.tell(message, false)
            }
            Ok(Message::Changed(changed)) => {
                self.to_tell.extend(self.telling.change(&changed));
                Ok(())
            }
            Err(RecvError::Lagged(_)) => self.catch_up().await,
            Err(RecvError::Closed) => Err(Ended),
        }
    }

    /// The step after `step`, if nothing else waits before it.
    fn newer(&mut self, step: &Step) -> Option<Arc<Step>> {
        let next = match self.messages.try_recv() {
            Ok(Message::Step(newer)) if newer.job_id == step.job_id => return Some(newer),
            Ok(other) => Ok(other),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Lagged(count)) => Err(RecvError::Lagged(count)),
            Err(TryRecvError::Closed) => Err(RecvError::Closed),
        };
        self.heard = Some(next);
        None
    }

    /// Tells all events after the last that was told.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        loop {
            let (database, job_id) = (self.app.storage.database(), self.telling.job_id());
            let page = events::since(database, self.seen, job_id, PAGE).await;
            let page = page.map_err(|_| Ended)?;
            let is_last = (page.len() as u64) < PAGE;
            for row in page {
                self.tell_event(&Event::new(row))?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn tell_event(&mut self, event: &Event) -> Result<(), Ended> {
        if event.row.id <= self.seen {
            return Ok(());
        }
        self.seen = event.row.id;
        let (message, is_last) = self.telling.event(event);
        self.tell(message, is_last)
    }

    fn tell(&mut self, message: Bytes, is_last: bool) -> Result<(), Ended> {
        self.to_tell.push_back(message);
        if is_last { Err(Ended) } else { Ok(()) }
    }
}
