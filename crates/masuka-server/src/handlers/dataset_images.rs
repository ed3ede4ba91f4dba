//! Pictures of a dataset: uploaded, looked at, captioned, deleted.

use axum::Json;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, Path, State};
use axum::http::StatusCode;
use masuka_storage::datasets::Dataset;
use masuka_storage::entities::dataset_image;

use crate::app::{App, Links};
use crate::dataset_intake::{Intake, tidy_caption};
use crate::desk::{PictureSize, TrainingSizes};
use crate::error::{ApiError, ApiResult, Refusals};
use crate::extract::{Body, Id, Query};
use crate::handlers::datasets::check_trigger;
use crate::views::dataset::{
    CaptionBody, CaptionsBody, CaptionsView, DatasetImageView, ImagesQuery, UploadForm, UploadView,
};

/// What is put into many captions at once is short.
const MAX_PART_CHARS: usize = 1000;

/// Upload pictures and captions
///
/// Pictures (PNG, JPEG, WebP), captions (`.txt` of the same name), or zips of both, in any number. What cannot be used
/// is listed with the reason; the rest is kept.
#[utoipa::path(
    post, path = "/api/datasets/{id}/upload", tag = "datasets",
    params(("id" = String, Path, description = "The dataset")),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "What became of each file", body = UploadView),
        Refusals,
    )
)]
pub(crate) async fn upload(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
    form: Result<Multipart, MultipartRejection>,
) -> ApiResult<Json<UploadView>> {
    let mut form =
        form.map_err(|e| ApiError::unsupported_type(format!("{e}; send multipart/form-data")))?;
    let dataset = app.storage.datasets().find(&id).await?;
    let mut intake = Intake::new(app.clone(), &id);
    while let Some(field) = form.next_field().await.map_err(|e| ApiError::broken_body(&e))? {
        intake.take(field).await?;
    }
    let taken = intake.finish().await?;
    app.tell_changed("datasets");
    let images = app.storage.datasets().images(&id).await?;
    let new = images.into_iter().filter(|image| taken.new.contains(&image.id)).collect();
    let files = show(&app, &links, &dataset, new, None).await?;
    let uploaded_count = files.len();
    Ok(Json(UploadView { dataset_id: id, uploaded_count, files, rejected: taken.rejected }))
}

/// Look at the pictures of a dataset
///
/// Each with the size at which it would be trained, in the order of their arrival.
#[utoipa::path(
    get, path = "/api/datasets/{id}/images", tag = "datasets",
    params(("id" = String, Path, description = "The dataset"), ImagesQuery),
    responses(
        (status = 200, description = "The pictures", body = Vec<DatasetImageView>),
        Refusals,
    )
)]
pub(crate) async fn list_images(
    State(app): State<App>,
    links: Links,
    Id(id): Id,
    Query(query): Query<ImagesQuery>,
) -> ApiResult<Json<Vec<DatasetImageView>>> {
    let dataset = app.storage.datasets().find(&id).await?;
    let images = app.storage.datasets().images(&id).await?;
    Ok(Json(show(&app, &links, &dataset, images, Some(query)).await?))
}

/// Caption a picture
#[utoipa::path(
    patch, path = "/api/datasets/{id}/images/{image_id}", tag = "datasets",
    params(("id" = String, Path, description = "The dataset"), ("image_id" = String, Path, description = "The picture")),
    request_body = CaptionBody,
    responses(
        (status = 200, description = "The picture", body = DatasetImageView),
        Refusals,
    )
)]
pub(crate) async fn update_image(
    State(app): State<App>,
    links: Links,
    ImagePath { id, image_id }: ImagePath,
    Body(body): Body<CaptionBody>,
) -> ApiResult<Json<DatasetImageView>> {
    let caption = tidy_caption(&body.caption).map_err(|m| ApiError::invalid("caption", m))?;
    let datasets = app.storage.datasets();
    datasets.caption(&id, &[(image_id.clone(), caption)]).await?;
    app.tell_changed("datasets");
    let (dataset, image) = (datasets.find(&id).await?, datasets.image(&id, &image_id).await?);
    let mut shown = show(&app, &links, &dataset, vec![image], None).await?;
    shown.pop().map(Json).ok_or_else(|| ApiError::not_found("not_found", "the picture is gone"))
}

/// Delete a picture
#[utoipa::path(
    delete, path = "/api/datasets/{id}/images/{image_id}", tag = "datasets",
    params(("id" = String, Path, description = "The dataset"), ("image_id" = String, Path, description = "The picture")),
    responses(
        (status = 204, description = "Gone"),
        Refusals,
    )
)]
pub(crate) async fn delete_image(
    State(app): State<App>,
    ImagePath { id, image_id }: ImagePath,
) -> ApiResult<StatusCode> {
    app.storage.datasets().delete_image(&id, &image_id).await?;
    app.tell_changed("datasets");
    Ok(StatusCode::NO_CONTENT)
}

/// Change many captions
#[utoipa::path(
    post, path = "/api/datasets/{id}/captions", tag = "datasets",
    params(("id" = String, Path, description = "The dataset")),
    request_body = CaptionsBody,
    responses(
        (status = 200, description = "Changed, all or none", body = CaptionsView),
        Refusals,
    )
)]
pub(crate) async fn caption_images(
    State(app): State<App>,
    Id(id): Id,
    Body(body): Body<CaptionsBody>,
) -> ApiResult<Json<CaptionsView>> {
    check_captions_body(&body)?;
    let images = app.storage.datasets().images(&id).await?;
    if let Some(ids) = &body.image_ids
        && let Some(unknown) = ids.iter().find(|id| images.iter().all(|image| image.id != **id))
    {
        let message = format!("image_ids names `{unknown}`, which the dataset does not have");
        return Err(ApiError::invalid("image_ids", message));
    }
    let is_meant = |image: &dataset_image::Model| {
        body.image_ids.as_ref().is_none_or(|ids| ids.contains(&image.id))
    };
    let mut changes = Vec::new();
    for image in images.iter().filter(|image| is_meant(image)) {
        let caption = edit(image.caption.as_deref().unwrap_or_default(), &body);
        let caption = tidy_caption(&caption).map_err(|message| {
            ApiError::invalid("caption", format!("{message}, of `{}`", image.file_name))
        })?;
        if caption != image.caption {
            changes.push((image.id.clone(), caption));
        }
    }
    app.storage.datasets().caption(&id, &changes).await?;
    app.tell_changed("datasets");
    Ok(Json(CaptionsView { dataset_id: id, updated_count: changes.len() }))
}

fn check_captions_body(body: &CaptionsBody) -> ApiResult<()> {
    let CaptionsBody { prefix, suffix, replace, trigger_word, .. } = body;
    let from = replace.as_ref().map(|replace| replace.from.clone());
    let to = replace.as_ref().map(|replace| replace.to.clone());
    if from.as_deref() == Some("") {
        return Err(ApiError::invalid("replace.from", "replace.from is empty"));
    }
    if [prefix, suffix, trigger_word, &from].into_iter().all(Option::is_none) {
        let message = "nothing is to be changed; give prefix, suffix, replace or trigger_word";
        return Err(ApiError::invalid("prefix", message));
    }
    trigger_word.as_deref().map(check_trigger).transpose()?;
    let parts =
        [("prefix", prefix), ("suffix", suffix), ("replace.from", &from), ("replace.to", &to)];
    for (field, part) in parts {
        let chars = part.as_deref().unwrap_or_default().chars().count();
        if chars > MAX_PART_CHARS {
            let message = format!("{field} of {chars} characters is longer than {MAX_PART_CHARS}");
            return Err(ApiError::invalid(field, message));
        }
    }
    Ok(())
}

/// The caption after all changes.
fn edit(caption: &str, body: &CaptionsBody) -> String {
    let mut caption = match &body.replace {
        Some(replace) => caption.replace(&replace.from, &replace.to),
        None => caption.to_owned(),
    };
    caption.insert_str(0, body.prefix.as_deref().unwrap_or_default());
    caption.push_str(body.suffix.as_deref().unwrap_or_default());
    match &body.trigger_word {
        Some(word) if caption.trim().is_empty() => word.clone(),
        Some(word) if !caption.contains(word.as_str()) => format!("{word}, {caption}"),
        _ => caption,
    }
}

/// The pictures with the sizes of a training.
async fn show(
    app: &App,
    links: &Links,
    dataset: &Dataset,
    images: Vec<dataset_image::Model>,
    query: Option<ImagesQuery>,
) -> ApiResult<Vec<DatasetImageView>> {
    let ImagesQuery { base_model, resolution } =
        query.unwrap_or(ImagesQuery { base_model: None, resolution: None });
    let facts = app.base_model(base_model.as_deref()).await?.facts()?;
    let (multiple, limits) = (facts.limits.size_multiple, &facts.limits);
    let resolution = match resolution.map(u64::try_from) {
        None => facts.defaults.width,
        Some(Ok(side)) if (limits.min_side..=limits.max_side).contains(&side) => side,
        Some(_) => {
            let message =
                format!("resolution is not within {} and {}", limits.min_side, limits.max_side);
            return Err(ApiError::invalid("resolution", message));
        }
    };
    let size = |image: &dataset_image::Model| PictureSize {
        width: image.width.unsigned_abs(),
        height: image.height.unsigned_abs(),
    };
    let sizes: Vec<_> = images.iter().map(size).collect();
    let buckets = app.desk.buckets(&TrainingSizes { resolution, multiple }, &sizes);
    let trigger = dataset.row.trigger_word.as_deref();
    let pairs = images.into_iter().zip(buckets);
    pairs.map(|(image, bucket)| DatasetImageView::new(image, bucket, trigger, links)).collect()
}

/// The ids in the path of a picture. Whatever they are, they are only looked up.
pub(crate) struct ImagePath {
    id: String,
    image_id: String,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for ImagePath {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        state: &S,
    ) -> Result<Self, ApiError> {
        let unknown = || ApiError::not_found("not_found", "there is no such id");
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, image_id)) = path.map_err(|_| unknown())?;
        if [&id, &image_id].iter().any(|id| id.contains('\0') || id.len() > 200) {
            return Err(unknown());
        }
        Ok(Self { id, image_id })
    }
}
