//! An installed base model.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "base_models")]
pub struct Model {
    /// The name by which requests ask for it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `flux`.
    pub family: String,
    /// For people.
    pub name: String,
    /// Where its files are: a path, or `starter`.
    pub source: String,
    /// Where the parts are that `source` lacks, as a source.
    pub parts_source: Option<String>,
    /// Defaults and limits, as JSON of [`BaseModelFacts`](crate::base_models::BaseModelFacts).
    pub facts: String,
    /// When it was installed.
    pub created_at_ms: i64,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
