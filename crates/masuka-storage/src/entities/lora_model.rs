//! A LoRA.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "lora_models")]
pub struct Model {
    /// A UUID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// For people.
    pub name: String,
    /// `1.0`.
    pub version: String,
    /// `flux_image`.
    pub model_type: String,
    /// The base model it was trained on, if known.
    pub base_model: Option<String>,
    /// The word that calls it.
    pub trigger_word: Option<String>,
    /// The user's own words about it.
    pub notes: Option<String>,
    /// Rank of its updates, if all have the same.
    pub rank: Option<i64>,
    /// Alpha of its updates, if all have the same.
    pub alpha: Option<f64>,
    /// Size of the file.
    pub bytes: i64,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// The convention of its tensor names.
    pub format: String,
    /// Training parameters, header of the file, import report; JSON.
    pub metadata: String,
    /// The file.
    pub blob_key: String,
    /// The training that made it.
    pub training_session_id: Option<String>,
    /// When it was imported or finished.
    pub created_at_ms: i64,
    /// When the user deleted it; erased some time later.
    pub deleted_at_ms: Option<i64>,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
