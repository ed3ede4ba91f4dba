//! A job: what is to be done, how far it is, and who may write about it.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    /// A UUID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `generation` or `training`.
    pub queue: String,
    /// Which file of `masuka-jobs` runs it: `generate_image`.
    pub kind: String,
    /// The base model it needs; workers prefer the one that is loaded.
    pub base_model: String,
    /// See [`JobStatus`](crate::queue::JobStatus).
    pub status: String,
    /// −10…10, higher first.
    pub priority: i64,
    /// Its place in the queue, smaller first.
    pub due_ms: i64,
    /// How many workers died of it.
    pub attempts: i64,
    /// After how many dead workers it fails.
    pub max_attempts: i64,
    /// Who runs it.
    pub worker_id: Option<String>,
    /// Raised by every claim.
    pub lease_epoch: i64,
    /// Until when the worker may go without a sign of life.
    pub lease_until_ms: Option<i64>,
    /// Whether the user asked to stop it.
    pub cancel_requested: bool,
    /// What else the user wants while it runs: `pause` or `save`.
    pub wish: Option<String>,
    /// How far it is, as JSON.
    pub progress: Option<String>,
    /// Why it failed, for programs.
    pub error_code: Option<String>,
    /// Why it failed, for people.
    pub error_message: Option<String>,
    /// When it was enqueued.
    pub created_at_ms: i64,
    /// When it was first claimed.
    pub started_at_ms: Option<i64>,
    /// When it reached its final state.
    pub finished_at_ms: Option<i64>,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
