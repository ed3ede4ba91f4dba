//! Something that happened to a job.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "job_events")]
pub struct Model {
    /// Rises with time, over all jobs.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// The job.
    pub job_id: String,
    /// `pending`, `processing`, `completed`…
    pub kind: String,
    /// Details, as JSON.
    pub payload: String,
    /// When.
    pub at_ms: i64,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
