//! The state of a training after some steps.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "training_checkpoints")]
pub struct Model {
    /// The training.
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    /// Steps done.
    #[sea_orm(primary_key, auto_increment = false)]
    pub step: i64,
    /// The file.
    pub blob_key: String,
    /// Its size.
    pub bytes: i64,
    /// When it was published.
    pub created_at_ms: i64,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
