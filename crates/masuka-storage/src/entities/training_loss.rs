//! The loss of one step of a training.

use sea_orm::entity::prelude::*;

/// The row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "training_losses")]
pub struct Model {
    /// The training.
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    /// The step, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub step: i64,
    /// As it was.
    pub loss: f64,
    /// With the noise of single steps taken out.
    pub smoothed_loss: f64,
    /// The learning rate of the step.
    pub learning_rate: f64,
}

/// Rows are joined by id where it is needed.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
