//! A picture of a data set, with its caption.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dataset_images")]
pub struct Model {
    /// A UUID of version 7: pictures are in the order of their ids.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// The data set.
    pub dataset_id: String,
    /// As the user called it; never a path of ours.
    pub file_name: String,
    /// The picture, upright and opaque.
    pub blob_key: String,
    /// The small JPEG.
    pub thumbnail_key: String,
    /// Pixels from left to right.
    pub width: i64,
    /// Pixels from top to bottom.
    pub height: i64,
    /// Size of the picture's file.
    pub bytes: i64,
    /// The same for equal pixels, whatever files they came in.
    pub pixel_hash: String,
    /// What is said of it; nothing means the trigger word alone.
    pub caption: Option<String>,
    /// When it arrived.
    pub created_at_ms: i64,
    /// When the user deleted it; erased some time later.
    pub deleted_at_ms: Option<i64>,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
