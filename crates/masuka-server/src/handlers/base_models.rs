//! Installed base models: the web form is drawn from these; one that is not needed is taken off the list.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use masuka_storage::base_models::{self, STARTER};

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::Id;
use crate::views::model::BaseModelView;

/// List base models
#[utoipa::path(
    get, path = "/api/models/base", tag = "models",
    responses(
        (status = 200, description = "The base models", body = Vec<BaseModelView>),
        Refusals,
    )
)]
pub(crate) async fn list_base_models(
    State(app): State<App>,
) -> ApiResult<Json<Vec<BaseModelView>>> {
    let all = base_models::list(app.storage.database()).await?;
    let (default, max_pixels) = (&app.options.base_model, app.options.max_pixels);
    let views = all.into_iter().map(|model| BaseModelView::new(model, default, max_pixels));
    Ok(Json(views.collect::<ApiResult<_>>()?))
}

/// Take a base model off the list
///
/// Its files stay where they are: other programs may use them, too. Refused for the starter model, for the default of
/// this server, and while jobs that wait or run need it.
#[utoipa::path(
    delete, path = "/api/models/base/{id}", tag = "models",
    params(("id" = String, Path, description = "The base model")),
    responses(
        (status = 204, description = "Off the list"),
        Refusals,
    )
)]
pub(crate) async fn remove_base_model(State(app): State<App>, Id(id): Id) -> ApiResult<StatusCode> {
    if id == STARTER {
        let message = "the starter model is part of the program and stays";
        return Err(ApiError::conflict("base_model_stays", message));
    }
    if id == app.options.base_model {
        let message = format!(
            "base model `{id}` is the default of this server; its administrator chooses another with MASUKA_BASE_MODEL"
        );
        return Err(ApiError::conflict("base_model_stays", message));
    }
    base_models::remove(app.storage.database(), &id).await?;
    app.tell_changed("models");
    Ok(StatusCode::NO_CONTENT)
}
