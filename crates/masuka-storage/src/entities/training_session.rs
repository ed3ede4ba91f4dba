//! A training that a user asked for.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "training_sessions")]
pub struct Model {
    /// The id of its job, too.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// For people; the adapter's name.
    pub name: String,
    /// `flux_image`.
    pub model_type: String,
    /// What it learns from.
    pub dataset_id: String,
    /// What it is trained on.
    pub base_model: String,
    /// Every resolved value, as JSON of [`TrainingSpec`](crate::trainings::TrainingSpec).
    pub parameters: String,
    /// As they were when it was asked for, as JSON of [`TrainingPicture`](crate::trainings::TrainingPicture)s.
    pub pictures: String,
    /// The finished adapter.
    pub model_id: Option<String>,
    /// When it was asked for.
    pub created_at_ms: i64,
    /// When the user deleted it; erased some time later.
    pub deleted_at_ms: Option<i64>,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
