//! Installed base models: the web form is drawn from these.

use axum::Json;
use axum::extract::State;
use masuka_storage::base_models;

use crate::app::App;
use crate::error::{ApiResult, Refusals};
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
