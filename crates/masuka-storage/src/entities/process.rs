//! A server or worker.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "processes")]
pub struct Model {
    /// A UUID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `server` or `worker`.
    pub role: String,
    /// The server that started this worker and sees it die.
    pub supervisor_id: Option<String>,
    /// Its number in the system it runs on.
    pub pid: i64,
    /// What it says about itself, as JSON.
    pub state: String,
    /// When it started.
    pub started_at_ms: i64,
    /// Its last sign of life.
    pub seen_at_ms: i64,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
