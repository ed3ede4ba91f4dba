//! Base models from a hub or from the import folder: asked for, watched, stopped.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use masuka_storage::base_models::{self, RESERVED};
use masuka_storage::downloads::HubModel;

use super::import::in_import_folder;
use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id};
use crate::installs::{Begun, Origin, run};
use crate::views::install::{InstallBody, InstallView};

/// The longest name of a model, and of its id.
const MAX_NAME_BYTES: usize = 300;
const MAX_ID_BYTES: usize = 100;

/// What is to be installed.
enum Source {
    Hub(HubModel),
    Here { path: std::path::PathBuf, text: String },
}

/// Install a base model
///
/// From the hub by `repo`, or from the server's import folder by `path`. The hub is asked at once: what it refuses, and
/// what the disk cannot hold, is refused here. The files then come in the background; `GET /api/events` tells of each
/// step with the event `install`, whose `details` are those of this answer. What was cut or stopped goes on where it was
/// when the same is asked for again.
#[utoipa::path(
    post, path = "/api/models/base/install", tag = "models", request_body = InstallBody,
    responses(
        (status = 202, description = "It is on its way", body = InstallView),
        Refusals,
    )
)]
pub(crate) async fn install_base_model(
    State(app): State<App>,
    Body(body): Body<InstallBody>,
) -> ApiResult<(StatusCode, Json<InstallView>)> {
    let source = Source::of(&app, &body)?;
    let id = match &body.id {
        Some(id) => checked_id(id)?.to_owned(),
        None => source.own_id(),
    };
    check_is_free(&app, &id, &source).await?;
    let parts = match &body.base {
        Some(base) => Some(parts_of(&app, base).await?),
        None => None,
    };
    let (begun, unwanted) = app.installs.begin(&app, &id, &source.text())?;
    let origin = source.look_up(&app, &begun).await?;
    let stopped = || ApiError::conflict("install_stopped", "the installation was stopped");
    let view = begun.view().ok_or_else(stopped)?;
    tokio::spawn(run(begun, unwanted, origin, parts));
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// List the base models that are on their way, and those that could not be installed
#[utoipa::path(
    get, path = "/api/models/base/install", tag = "models",
    responses(
        (status = 200, description = "The installations", body = Vec<InstallView>),
        Refusals,
    )
)]
pub(crate) async fn list_installs(State(app): State<App>) -> Json<Vec<InstallView>> {
    Json(app.installs.list())
}

/// Stop an installation, or dismiss one that has failed
///
/// What has arrived is kept for the next time.
#[utoipa::path(
    delete, path = "/api/models/base/install/{id}", tag = "models",
    params(("id" = String, Path, description = "The id that the base model would have had")),
    responses(
        (status = 204, description = "Stopped"),
        Refusals,
    )
)]
pub(crate) async fn stop_install(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    match app.installs.stop(&app, &id) {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let message =
                format!("nothing is being installed as `{id}`; see GET /api/models/base/install");
            Err(ApiError::not_found("install_not_found", message))
        }
    }
}

impl Source {
    fn of(app: &App, body: &InstallBody) -> ApiResult<Self> {
        match (&body.repo, &body.path) {
            (Some(repo), None) => {
                let repo = repo.trim();
                let model = HubModel::parse(repo).filter(|_| repo.len() <= MAX_NAME_BYTES);
                model.map(Self::Hub).ok_or_else(|| {
                    let shown: String = repo.chars().take(80).collect();
                    let message = format!(
                        "repo `{shown}` is no model of the hub such as black-forest-labs/FLUX.1-dev"
                    );
                    ApiError::invalid("repo", message)
                })
            }
            (None, Some(text)) => {
                Ok(Self::Here { path: in_import_folder(app, text)?, text: text.clone() })
            }
            _ => {
                let message = "one of repo and path is needed: a model of the hub, or a folder or file of the import folder";
                Err(ApiError::invalid("repo", message))
            }
        }
    }

    /// As it was asked for.
    fn text(&self) -> String {
        match self {
            Self::Hub(model) => model.to_string(),
            Self::Here { text, .. } => text.clone(),
        }
    }

    /// The id where none is asked for.
    fn own_id(&self) -> String {
        match self {
            Self::Hub(model) => base_models::id_of(model.short_name()),
            Self::Here { path, .. } => {
                let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
                base_models::id_of(&name.unwrap_or_default().to_string_lossy())
            }
        }
    }

    /// Whether `model` is this one, perhaps as it was before.
    fn is(&self, model: &masuka_storage::entities::base_model::Model) -> bool {
        match self {
            Self::Hub(hub) => model.name == hub.name(),
            Self::Here { path, .. } => model.source == path.display().to_string(),
        }
    }

    /// Where its files will come from, and how much that is.
    async fn look_up(self, app: &App, begun: &Begun) -> ApiResult<Origin> {
        match self {
            Self::Hub(model) => {
                let found = app.options.hub.look_up(&model).await;
                let found = found.map_err(|error| ApiError::from(error).at("repo"))?;
                begun.expect(found.total());
                Ok(Origin::Hub { found, name: model.name().to_owned() })
            }
            Self::Here { path, .. } => Ok(Origin::Here(path)),
        }
    }
}

fn checked_id(id: &str) -> ApiResult<&str> {
    if !id.is_empty() && id.len() <= MAX_ID_BYTES && base_models::id_of(id) == id {
        return Ok(id);
    }
    let shown: String = id.chars().take(80).collect();
    let message =
        format!("id `{shown}` is not 1 to {MAX_ID_BYTES} small letters, digits, dots and hyphens");
    Err(ApiError::invalid("id", message))
}

/// Where the parts of the base model `id` are; of one that takes them from elsewhere itself, there.
async fn parts_of(app: &App, id: &str) -> ApiResult<String> {
    let model = app.base_model(Some(id)).await.map_err(|error| error.at("base"))?;
    Ok(model.parts_source.unwrap_or(model.source))
}

/// Refuses the id of another model.
async fn check_is_free(app: &App, id: &str, source: &Source) -> ApiResult<()> {
    let known = base_models::get(app.storage.database(), id).await?;
    let other = known.filter(|model| !source.is(model)).map(|model| model.name);
    let reserved = RESERVED.into_iter().find(|word| *word == id).map(str::to_owned);
    match reserved.or(other) {
        None => Ok(()),
        Some(name) => {
            let message = format!("id `{id}` is taken by `{name}`; choose another with `id`");
            Err(ApiError::conflict("base_model_exists", message).at("id"))
        }
    }
}
