//! A picture that was drawn while an adapter was trained.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "training_samples")]
pub struct Model {
    /// The training.
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    /// Steps done.
    #[sea_orm(primary_key, auto_increment = false)]
    pub step: i64,
    /// The place of its prompt, from 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// What it shows.
    pub prompt: String,
    /// The PNG.
    pub blob_key: String,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
