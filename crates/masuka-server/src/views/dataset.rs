//! Pictures and captions to train on.

use masuka_storage::blobs::BlobKey;
use masuka_storage::datasets::Dataset;
use masuka_storage::entities::dataset_image;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use utoipa::{IntoParams, ToSchema};

use crate::app::Links;
use crate::desk::PictureSize;
use crate::error::ApiResult;
use crate::times::rfc3339;

/// A data set to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatasetBody {
    /// For people.
    #[schema(example = "My dog")]
    pub name: String,
    /// The word that the captions call the style or subject by.
    #[schema(example = "TOK")]
    pub trigger_word: Option<String>,
    /// Your own.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Json>>,
}

/// A data set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetView {
    id: String,
    name: String,
    trigger_word: Option<String>,
    /// What the keys of its files begin with.
    storage_path: String,
    image_count: u64,
    video_count: u64,
    /// Whether it can be trained on.
    is_processed: bool,
    /// Whether every picture has a caption.
    captions_generated: bool,
    #[schema(value_type = Object)]
    metadata: Json,
    created_at: String,
}

impl From<Dataset> for DatasetView {
    fn from(dataset: Dataset) -> Self {
        let Dataset { row, images, captioned } = dataset;
        Self {
            storage_path: format!("datasets/{}", row.id),
            image_count: images,
            video_count: 0,
            is_processed: images > 0,
            captions_generated: images > 0 && captioned == images,
            metadata: serde_json::from_str(&row.metadata).unwrap_or_default(),
            created_at: rfc3339(row.created_at_ms),
            id: row.id,
            name: row.name,
            trigger_word: row.trigger_word,
        }
    }
}

/// What an upload form may hold.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes the multipart form to OpenAPI")]
pub(crate) struct UploadForm {
    /// Pictures (.png, .jpg, .webp), captions (.txt of the same name), zips of both.
    #[schema(value_type = Vec<String>, format = Binary)]
    pub files: Vec<String>,
}

/// What became of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadView {
    pub dataset_id: String,
    /// Pictures that are new.
    pub uploaded_count: usize,
    /// These pictures.
    pub files: Vec<DatasetImageView>,
    /// What could not be used; the rest is kept.
    pub rejected: Vec<RejectedView>,
}

/// A file that is left out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RejectedView {
    /// Its name, and that of its zip before it.
    #[schema(example = "photos.zip/dog.png")]
    pub file: String,
    #[schema(example = "is empty")]
    pub reason: String,
}

/// For which training sizes are shown.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImagesQuery {
    /// The base model [default: the configured one]
    pub base_model: Option<String>,
    /// The side of a square picture in pixels [default: the base model's]
    pub resolution: Option<i64>,
}

/// A picture of a data set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatasetImageView {
    id: String,
    file: String,
    /// Nothing means the trigger word alone.
    caption: Option<String>,
    width: i64,
    height: i64,
    file_size_bytes: i64,
    /// The size at which it would be trained.
    bucket: Option<PictureSize>,
    /// What is not as it should be.
    #[schema(example = json!(["is smaller than 1024×1024 and will be enlarged"]))]
    warnings: Vec<String>,
    /// Valid for at least an hour.
    url: String,
    /// Valid for at least an hour.
    thumbnail_url: String,
    created_at: String,
}

impl DatasetImageView {
    /// `image` as it would be trained at the size of `bucket` by the word `trigger`.
    pub(crate) fn new(
        image: dataset_image::Model,
        bucket: Option<PictureSize>,
        trigger: Option<&str>,
        links: &Links,
    ) -> ApiResult<Self> {
        Ok(Self {
            warnings: warnings(&image, bucket, trigger),
            bucket,
            url: links.file(&BlobKey::parse(&image.blob_key)?),
            thumbnail_url: links.file(&BlobKey::parse(&image.thumbnail_key)?),
            id: image.id,
            file: image.file_name,
            caption: image.caption,
            width: image.width,
            height: image.height,
            file_size_bytes: image.bytes,
            created_at: rfc3339(image.created_at_ms),
        })
    }
}

fn warnings(
    image: &dataset_image::Model,
    bucket: Option<PictureSize>,
    trigger: Option<&str>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let (wide, high) = (image.width.unsigned_abs(), image.height.unsigned_abs());
    match bucket {
        Some(PictureSize { width, height }) if wide < width || high < height => {
            warnings.push(format!("is smaller than {width}×{height} and will be enlarged"));
        }
        Some(_) => {}
        None => warnings.push("has a shape for which there is no size to train at".into()),
    }
    match (&image.caption, trigger) {
        (None, None) => warnings.push("has no caption, and the dataset no trigger word".into()),
        (Some(caption), Some(trigger)) if !caption.contains(trigger) => {
            warnings.push(format!("has a caption without the trigger word `{trigger}`"));
        }
        _ => {}
    }
    warnings
}

/// A new caption.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptionBody {
    /// An empty one takes the caption away.
    #[schema(example = "a photo of TOK on a beach")]
    pub caption: String,
}

/// A change of many captions, in this order: replace, prefix, suffix, trigger word.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptionsBody {
    /// Put before each caption.
    #[schema(example = "a photo of ")]
    pub prefix: Option<String>,
    /// Put after each caption.
    #[schema(example = ", at night")]
    pub suffix: Option<String>,
    /// One text for another.
    pub replace: Option<ReplaceBody>,
    /// Put before captions that lack it, with a comma.
    #[schema(example = "TOK")]
    pub trigger_word: Option<String>,
    /// Only these pictures [default: all]
    pub image_ids: Option<Vec<String>>,
}

/// One text for another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplaceBody {
    #[schema(example = "dog")]
    pub from: String,
    #[schema(example = "TOK dog")]
    pub to: String,
}

/// What became of a change of many captions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CaptionsView {
    pub dataset_id: String,
    /// Captions that are others than before.
    pub updated_count: usize,
}
