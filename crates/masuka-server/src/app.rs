//! What all handlers share, and the server as a whole.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use masuka_storage::base_models;
use masuka_storage::blobs::BlobKey;
use masuka_storage::bus::{Bus, Signal};
use masuka_storage::downloads::Hub;
use masuka_storage::entities::base_model;
use masuka_storage::generations::GroupCommit;
use masuka_storage::{Error as StorageError, Link, Secret, Storage};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::desk::EngineDesk;
use crate::error::{ApiError, ApiResult};
use crate::event_pump::EventPump;
use crate::installs::Installs;
use crate::telemetry::Metrics;
use crate::{connections, housekeeping, routes, times};

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The id under which it is entered as a process.
    pub id: String,
    /// How clients reach it, behind a proxy; without it their own `Host` is taken.
    pub public_url: Option<String>,
    /// Without it everybody may ask.
    pub api_key: Option<Secret>,
    /// Names in `Host` besides addresses and localhost.
    pub allowed_hosts: Vec<String>,
    /// Pages elsewhere that may ask; `*` is all.
    pub cors_origins: Vec<String>,
    /// The base model of requests that name none, until a user chooses another.
    pub base_model: String,
    /// How many jobs may wait.
    pub max_waiting: u64,
    /// After how many dead workers a job fails.
    pub max_attempts: i64,
    /// The largest picture.
    pub max_pixels: u64,
    /// The largest upload.
    pub max_upload_bytes: u64,
    /// How long a body may be silent before its request is given up, and how long a connection may wait for the whole head
    /// of its next request before it is closed.
    pub client_silence: Duration,
    /// The folder whose files may be imported by path.
    pub import_dir: Option<PathBuf>,
    /// Names and addresses from which files may be imported although they are private.
    pub import_hosts: Vec<String>,
    /// Where base models come from.
    pub hub: Hub,
    /// The version of the program.
    pub version: &'static str,
}

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) options: ServerOptions,
    pub(crate) storage: Storage,
    pub(crate) requests: GroupCommit,
    pub(crate) bus: Bus,
    pub(crate) desk: Arc<dyn EngineDesk>,
    pub(crate) events: EventPump,
    pub(crate) metrics: Metrics,
    pub(crate) installs: Installs,
    /// Turns true when the server is about to end: streams end then.
    pub(crate) closing: watch::Receiver<bool>,
}

impl App {
    /// The base model of requests that name none.
    pub(crate) async fn default_base_model(&self) -> masuka_storage::Result<String> {
        base_models::default_id(self.storage.database(), &self.options.base_model).await
    }

    /// The base model that a request names, or the default. One that is being installed is not there yet.
    pub(crate) async fn base_model(&self, named: Option<&str>) -> ApiResult<base_model::Model> {
        let id = match named {
            Some(id) => id.to_owned(),
            None => self.default_base_model().await?,
        };
        match base_models::find(self.storage.database(), &id).await {
            Err(error @ StorageError::NotFound { .. }) => {
                Err(match self.installs.on_its_way(&id) {
                    Some(view) => ApiError::model_loading(&view),
                    None => error.into(),
                })
            }
            found => Ok(found?),
        }
    }

    /// Tells every page that something which is no job has changed: `queue`, `models`, `datasets`.
    pub(crate) fn tell_changed(&self, what: &str) {
        self.tell(what, serde_json::Value::Null);
    }

    /// Tells every page how something is that is no job.
    pub(crate) fn tell(&self, what: &str, details: serde_json::Value) {
        self.bus.publish(&Signal::Changed { what: what.to_owned(), details });
    }
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// A server, ready to answer.
pub struct Server {
    app: App,
    close: watch::Sender<bool>,
}

impl Server {
    /// Wires the parts together.
    pub fn new(
        options: ServerOptions,
        storage: Storage,
        bus: Bus,
        desk: Arc<dyn EngineDesk>,
    ) -> Self {
        let (close, closing) = watch::channel(false);
        let shared = Shared {
            requests: GroupCommit::new(storage.generations(), options.max_waiting),
            events: EventPump::new(),
            metrics: Metrics::default(),
            installs: Installs::default(),
            options,
            storage,
            bus,
            desk,
            closing,
        };
        Self { app: App(Arc::new(shared)), close }
    }

    /// Answers on `listener` until `stop` is done; then requests end, streams at once.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) {
        let housekeeping = tokio::spawn(housekeeping::run(self.app.clone()));
        let pump = tokio::spawn(crate::event_pump::run(self.app.clone()));
        let router = routes::router(self.app.clone());
        let (close, silence) = (self.close, self.app.options.client_silence);
        let stop = async move {
            stop.await;
            close.send_replace(true);
        };
        connections::serve(listener, router, silence, stop).await;
        housekeeping.abort();
        pump.abort();
    }
}

/// How the client of a request reaches this server: what links begin with.
pub(crate) struct Links {
    base: String,
    app: App,
    now_seconds: i64,
}

impl Links {
    /// The download URL of a file.
    pub(crate) fn file(&self, key: &BlobKey) -> String {
        match self.app.storage.link(key, self.now_seconds) {
            Link::Here(path) => self.to(&path),
            Link::Elsewhere(url) => url,
        }
    }

    /// The same at this moment, for streams that last.
    pub(crate) fn refreshed(&self) -> Self {
        let (base, app) = (self.base.clone(), self.app.clone());
        Self { base, app, now_seconds: times::now_seconds() }
    }

    /// Any other URL of this server.
    pub(crate) fn to(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.base)
    }
}

impl FromRequestParts<App> for Links {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let own = || format!("http://{}", host.unwrap_or("localhost"));
        let base = app.options.public_url.clone().unwrap_or_else(own);
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { base, app: app.clone(), now_seconds: times::now_seconds() })
    }
}
