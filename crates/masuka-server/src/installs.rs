//! Base models on their way into this server, told to every page as they come. Nothing of an installation outlives the
//! process but the files and parts of files that have arrived; the base model's row is written last.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use masuka_storage::base_models;
use masuka_storage::downloads::{Found, Installing};
use serde_json::json;
use tokio::sync::oneshot;

use crate::app::App;
use crate::desk::BaseModelFiles;
use crate::error::{ApiError, ApiResult};
use crate::views::install::{InstallStatus, InstallView};

/// How often pages hear of bytes that have arrived.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// All that are on their way or have failed.
#[derive(Debug, Default)]
pub(crate) struct Installs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How many were begun.
    count: u64,
    /// By the id of the base model.
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Which one, of those that were begun for the same id.
    number: u64,
    view: InstallView,
    /// Whoever works on it stops when this is gone.
    _wanted: oneshot::Sender<Infallible>,
}

/// Where the files of a base model come from.
pub(crate) enum Origin {
    /// The hub knows them.
    Hub { found: Found, name: String },
    /// They lie here.
    Here(PathBuf),
}

/// An installation in the hands of whoever works on it; without an end of its own it ends as cancelled.
pub(crate) struct Begun {
    app: App,
    id: String,
    number: u64,
}

/// Ends when nobody wants an installation any more.
pub(crate) type Unwanted = oneshot::Receiver<Infallible>;

impl Installs {
    /// Those that are on their way or have failed, by id.
    pub(crate) fn list(&self) -> Vec<InstallView> {
        self.known().entries.values().map(|entry| entry.view.clone()).collect()
    }

    /// The one by which `id` will be there, if it is on its way.
    pub(crate) fn on_its_way(&self, id: &str) -> Option<InstallView> {
        let known = self.known();
        let view = known.entries.get(id).map(|entry| &entry.view);
        view.filter(|view| view.status == InstallStatus::Installing).cloned()
    }

    /// Enters one that begins; one that has failed makes place for it.
    ///
    /// # Errors
    /// When the same is on its way.
    pub(crate) fn begin(&self, app: &App, id: &str, source: &str) -> ApiResult<(Begun, Unwanted)> {
        let mut known = self.known();
        let is_same = |entry: &&Entry| {
            let view = &entry.view;
            view.status == InstallStatus::Installing && (view.id == id || view.source == source)
        };
        if let Some(Entry { view, .. }) = known.entries.values().find(is_same) {
            let message = format!(
                "`{}` is being installed as `{}`; wait for it, or stop it with DELETE /api/models/base/install/{}",
                view.source, view.id, view.id
            );
            return Err(ApiError::conflict("install_running", message));
        }
        known.count += 1;
        let number = known.count;
        let (wanted, unwanted) = oneshot::channel();
        let view = InstallView {
            id: id.to_owned(),
            source: source.to_owned(),
            status: InstallStatus::Installing,
            file: None,
            bytes: 0,
            total_bytes: 0,
            error: None,
        };
        known.entries.insert(id.to_owned(), Entry { number, view, _wanted: wanted });
        Ok((Begun { app: app.clone(), id: id.to_owned(), number }, unwanted))
    }

    /// Stops one that is on its way, forgets one that has failed; whether there was one.
    pub(crate) fn stop(&self, app: &App, id: &str) -> bool {
        let removed = self.known().entries.remove(id);
        let is_known = removed.is_some();
        if let Some(entry) = removed {
            tell(app, &InstallView { status: InstallStatus::Cancelled, ..entry.view });
        }
        is_known
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(app: &App, view: &InstallView) {
    app.tell("install", json!(view));
}

/// Fetches, examines and enters a base model, unless that is stopped.
pub(crate) async fn run(begun: Begun, unwanted: Unwanted, origin: Origin, parts: Option<String>) {
    let (app, id) = (begun.app.clone(), begun.id.clone());
    let mut closing = app.closing.clone();
    let installed = tokio::select! {
        installed = install(&begun, origin, parts) => installed,
        _ = unwanted => return,
        _ = closing.wait_for(|closes| *closes) => return,
    };
    match installed {
        Ok(()) => {
            tracing::info!(base_model = id, "installed");
            begun.end(InstallStatus::Completed);
            app.tell_changed("models");
        }
        Err(error) => begun.fail(error),
    }
}

/// `parts` is where the parts are that the files lack.
async fn install(begun: &Begun, origin: Origin, parts: Option<String>) -> ApiResult<()> {
    let app = &begun.app;
    let (path, name, field) = match origin {
        Origin::Hub { found, name } => (fetch(begun, &found).await?, Some(name), "repo"),
        Origin::Here(path) => (path, None, "path"),
    };
    let (here, id) = (app.clone(), begun.id.clone());
    let examined = tokio::task::spawn_blocking(move || {
        here.desk.examine_base_model(&BaseModelFiles { path, name, parts }, &id)
    });
    let new = examined
        .await
        .map_err(|_| ApiError::invalid(field, "this model makes the reader panic"))?
        .map_err(|message| ApiError::invalid(field, message))?;
    Ok(base_models::enter(app.storage.database(), &new).await?)
}

async fn fetch(begun: &Begun, found: &Found) -> ApiResult<PathBuf> {
    let mut told = |progress: &Installing| {
        begun.advance(progress);
        true
    };
    let fetching = begun.app.options.hub.fetch(found, &mut told);
    tokio::pin!(fetching);
    let mut ticks = tokio::time::interval(TELL_EVERY);
    let mut told_bytes = None;
    loop {
        tokio::select! {
            fetched = &mut fetching => {
                return fetched.map_err(|error| ApiError::from(error).at("repo"));
            }
            _ = ticks.tick() => {
                let view = begun.view().filter(|view| told_bytes != Some(view.bytes));
                if let Some(view) = view {
                    told_bytes = Some(view.bytes);
                    tell(&begun.app, &view);
                }
            }
        }
    }
}

impl Begun {
    /// As it stands.
    pub(crate) fn view(&self) -> Option<InstallView> {
        self.change(|_| {})
    }

    /// The hub has told how large it is.
    pub(crate) fn expect(&self, total_bytes: u64) {
        self.change(|view| view.total_bytes = total_bytes);
    }

    fn advance(&self, progress: &Installing) {
        let Installing { file, bytes, total } = progress;
        self.change(|view| {
            if view.file.as_ref() != Some(file) {
                view.file = Some(file.clone());
            }
            (view.bytes, view.total_bytes) = (*bytes, *total);
        });
    }

    fn fail(&self, error: ApiError) {
        let error = error.into_detail();
        tracing::warn!(base_model = self.id, code = error.code, "not installed: {}", error.message);
        let changed = self.change(|view| {
            view.status = InstallStatus::Failed;
            view.error = Some(error);
        });
        if let Some(view) = changed {
            tell(&self.app, &view);
        }
    }

    /// Takes it off the list, unless it has failed or is another's by now.
    fn end(&self, status: InstallStatus) {
        let mut known = self.app.installs.known();
        let is_mine = |entry: &Entry| {
            entry.number == self.number && entry.view.status == InstallStatus::Installing
        };
        if known.entries.get(&self.id).is_some_and(is_mine)
            && let Some(entry) = known.entries.remove(&self.id)
        {
            tell(&self.app, &InstallView { status, ..entry.view });
        }
    }

    /// Changes the entry, unless it is another's by now; how it is afterwards.
    fn change(&self, change: impl FnOnce(&mut InstallView)) -> Option<InstallView> {
        let mut known = self.app.installs.known();
        let entry = known.entries.get_mut(&self.id).filter(|entry| entry.number == self.number)?;
        change(&mut entry.view);
        Some(entry.view.clone())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.end(InstallStatus::Cancelled);
    }
}
