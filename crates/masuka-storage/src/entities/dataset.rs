//! Pictures and captions to train on.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "datasets")]
pub struct Model {
    /// A UUID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// For people.
    pub name: String,
    /// The word that the captions call the style or subject by.
    pub trigger_word: Option<String>,
    /// The user's own, as a JSON object.
    pub metadata: String,
    /// When it was made.
    pub created_at_ms: i64,
    /// When the user deleted it; erased some time later.
    pub deleted_at_ms: Option<i64>,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
