//! What a user asked for.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "generations")]
pub struct Model {
    /// The id of its job, too.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// What should be seen.
    pub prompt: String,
    /// What should not be seen.
    pub negative_prompt: Option<String>,
    /// The base model.
    pub base_model: String,
    /// Every resolved value, as JSON of [`GenerationSpec`](crate::generations::GenerationSpec).
    pub parameters: String,
    /// What the engine told, as JSON of [`GenerationReport`](crate::generations::GenerationReport).
    pub report: Option<String>,
    /// Whether the user likes it.
    pub favorite: bool,
    /// When it was asked for.
    pub created_at_ms: i64,
    /// When the user deleted it; erased some time later.
    pub deleted_at_ms: Option<i64>,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
