//! A published picture.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outputs")]
pub struct Model {
    /// The job.
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: String,
    /// Its place in the job, from 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// The PNG.
    pub blob_key: String,
    /// The small JPEG.
    pub thumbnail_key: Option<String>,
    /// The seed of its noise.
    pub seed: i64,
    /// Pixels from left to right.
    pub width: i64,
    /// Pixels from top to bottom.
    pub height: i64,
    /// Size of the PNG.
    pub bytes: i64,
    /// Of the PNG, in hexadecimal.
    pub sha256: String,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
