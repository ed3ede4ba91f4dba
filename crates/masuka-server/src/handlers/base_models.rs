//! Installed base models: the web form is drawn from these; one that is not needed is taken off the list.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use masuka_storage::base_models::{self, STARTER};

use crate::app::App;
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id, Query};
use crate::views::model::{BaseModelPatch, BaseModelRemoval, BaseModelView};

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
    let (default, max_pixels) = (app.default_base_model().await?, app.options.max_pixels);
    let views = all.into_iter().map(|model| BaseModelView::new(model, &default, max_pixels));
    Ok(Json(views.collect::<ApiResult<_>>()?))
}

/// Make a base model the default
///
/// Requests that name none get it from then on, on every server of this database, until another is chosen.
#[utoipa::path(
    patch, path = "/api/models/base/{id}", tag = "models",
    params(("id" = String, Path, description = "The base model")),
    request_body = BaseModelPatch,
    responses(
        (status = 200, description = "The base model", body = BaseModelView),
        Refusals,
    )
)]
pub(crate) async fn update_base_model(
    State(app): State<App>,
    Id(id): Id,
    Body(patch): Body<BaseModelPatch>,
) -> ApiResult<Json<BaseModelView>> {
    let model = app.base_model(Some(&id)).await?;
    if !patch.is_default {
        let message = "is_default false: make another base model the default instead";
        return Err(ApiError::invalid("is_default", message));
    }
    base_models::set_default(app.storage.database(), &id).await?;
    app.tell_changed("models");
    Ok(Json(BaseModelView::new(model, &id, app.options.max_pixels)?))
}

/// Take a base model off the list
///
/// Its files stay where they are, since other programs may use them, too; with `files=true` they are erased if they were
/// downloaded from the hub. Refused for the starter model, for the default, and while jobs that are not over need it.
#[utoipa::path(
    delete, path = "/api/models/base/{id}", tag = "models",
    params(("id" = String, Path, description = "The base model"), BaseModelRemoval),
    responses(
        (status = 204, description = "Off the list"),
        Refusals,
    )
)]
pub(crate) async fn remove_base_model(
    State(app): State<App>,
    Id(id): Id,
    Query(removal): Query<BaseModelRemoval>,
) -> ApiResult<StatusCode> {
    if id == STARTER {
        let message = "the starter model is part of the program and stays";
        return Err(ApiError::conflict("base_model_stays", message));
    }
    if id == app.options.base_model {
        let message = format!(
            "base model `{id}` is entered by MASUKA_BASE_MODEL whenever the server starts; change that first"
        );
        return Err(ApiError::conflict("base_model_stays", message));
    }
    if id == app.default_base_model().await? {
        let message = format!(
            "base model `{id}` is the default; make another the default first, by PATCH /api/models/base/{{id}}"
        );
        return Err(ApiError::conflict("base_model_stays", message));
    }
    let database = app.storage.database();
    let model = base_models::find(database, &id).await?;
    match removal.files.unwrap_or(false) {
        true => base_models::remove_with_files(database, &app.options.hub, &id).await?,
        false => base_models::remove(database, &id).await?,
    }
    app.desk.close_base_model(&model);
    app.tell_changed("models");
    Ok(StatusCode::NO_CONTENT)
}
