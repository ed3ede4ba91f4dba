//! Orders made by hand: a waiting job beside another, however far apart their times lie.

use sea_orm::{ConnectionTrait, DatabaseTransaction, EntityTrait};

use super::claim::AFFINITY_MS;
use super::{JobStatus, Queue};
use crate::entities::job;
use crate::error::{Error, Result};

/// Between a job that was placed and its neighbours: an order made by hand holds whatever model is loaded.
const GAP_MS: i64 = AFFINITY_MS + 1;

/// Which side of another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It comes next after the placed one.
    Before,
    /// It comes last before the placed one.
    After,
}

impl Side {
    /// Sign of the way, comparison of those beyond, and which of them is the nearest.
    fn words(self) -> (i64, &'static str, &'static str) {
        match self {
            Self::Before => (-1, "<", "MAX"),
            Self::After => (1, ">", "MIN"),
        }
    }
}

impl Queue {
    /// Puts the waiting job `id` directly beside the waiting job `other` of the same queue. Those beyond make room and
    /// keep their order.
    ///
    /// # Errors
    /// [`Error::WrongState`] when one of them waits no more or they are of different queues, [`Error::NotFound`], or
    /// the database refuses.
    pub async fn place(&self, id: &str, side: Side, other: &str) -> Result<()> {
        let transaction = self.database.begin().await?;
        let moved = self.waiting(&transaction, id).await?;
        let other = self.waiting(&transaction, other).await?;
        if moved.queue != other.queue {
            let rule = "only jobs of the same queue can stand beside each other";
            return Err(Error::WrongState { id: other.id, status: other.queue, rule });
        }
        if moved.id == other.id {
            return Ok(());
        }
        let due_ms = self.make_room(&transaction, &moved, side, &other).await?;
        let sql = "UPDATE jobs SET due_ms = $2 WHERE id = $1 AND status = 'queued'";
        let statement = self.database.statement(sql, [id.into(), due_ms.into()]);
        transaction.execute_raw(statement).await?;
        Ok(transaction.commit().await?)
    }

    async fn waiting(&self, transaction: &DatabaseTransaction, id: &str) -> Result<job::Model> {
        let found = job::Entity::find_by_id(id).one(transaction).await?;
        let job = found.ok_or_else(|| Error::not_found("job", id))?;
        let status = job.status()?;
        if status == JobStatus::Queued {
            return Ok(job);
        }
        let rule = "only pending jobs can be moved";
        Err(Error::WrongState { id: job.id, status: status.public_name().to_owned(), rule })
    }

    /// Moves those beyond `other` away where they stand too near; the time that lies between.
    async fn make_room(
        &self,
        transaction: &DatabaseTransaction,
        moved: &job::Model,
        side: Side,
        other: &job::Model,
    ) -> Result<i64> {
        let (way, beyond, nearest) = side.words();
        let those = format!(
            "status = 'queued' AND queue = $1 AND id <> $2 AND (due_ms {beyond} $3 OR (due_ms = $3 AND id {beyond} $4))"
        );
        let values = [
            other.queue.clone().into(),
            moved.id.clone().into(),
            other.due_ms.into(),
            other.id.clone().into(),
        ];
        let sql = format!("SELECT {nearest}(due_ms) AS due_ms FROM jobs WHERE {those}");
        let row = transaction.query_one_raw(self.database.statement(&sql, values.clone())).await?;
        let neighbour: Option<i64> =
            row.map(|row| row.try_get("", "due_ms")).transpose()?.flatten();
        let room = neighbour.map_or(i64::MAX, |due_ms| way * (due_ms - other.due_ms));
        if room < 2 * GAP_MS {
            let sql = format!("UPDATE jobs SET due_ms = due_ms + $5 WHERE {those}");
            let values = values.into_iter().chain([(way * (2 * GAP_MS - room)).into()]);
            transaction.execute_raw(self.database.statement(&sql, values)).await?;
        }
        Ok(other.due_ms + way * GAP_MS)
    }
}
