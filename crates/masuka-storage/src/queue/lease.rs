//! Signs of life, and the final word. Every write names job, worker and epoch, so that a worker whose lease was given
//! to another can change nothing: it is fenced off.

use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    QueryResult,
};
use serde_json::{Value as Json, json};

use super::{JobStatus, Queue, WISH_PAUSE, WISH_SAVE};
use crate::entities::{job, output};
use crate::error::Result;
use crate::events;

/// How long a worker may go without a sign of life.
pub const LEASE_MS: i64 = 30_000;

/// The condition of every write under a lease.
const HELD: &str = "id = $1 AND worker_id = $2 AND lease_epoch = $3 AND status = 'running'";

/// The right to run a job and to write about it, until another claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job_id: String,
    /// Who runs it.
    pub worker_id: String,
    /// Which claim this is; part of the key of every file the job writes.
    pub epoch: i64,
}

/// What a sign of life learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Go on.
    Held,
    /// The user asked to stop.
    CancelRequested,
    /// The user asked to pause.
    PauseRequested,
    /// The user asked for a checkpoint; go on.
    SaveRequested,
    /// Another worker has the job, or it is over.
    Lost,
}

impl LeaseState {
    fn from_row(row: Option<QueryResult>) -> Result<Self> {
        let Some(row) = row else { return Ok(Self::Lost) };
        let cancelled: bool = row.try_get("", "cancel_requested")?;
        let wish: Option<String> = row.try_get("", "wish")?;
        Ok(match wish.as_deref() {
            _ if cancelled => Self::CancelRequested,
            Some(WISH_PAUSE) => Self::PauseRequested,
            Some(WISH_SAVE) => Self::SaveRequested,
            _ => Self::Held,
        })
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// As this worker says.
    Accepted,
    /// The user had asked to stop before; the job counts as cancelled and its files are not published.
    Cancelled,
    /// Another worker has the job; nothing was changed.
    Fenced,
}

/// Why a job is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs: `out_of_memory`.
    pub code: String,
    /// For people, with the remedy.
    pub message: String,
}

impl Queue {
    /// A sign of life; `progress` replaces what the row says of it.
    ///
    /// # Errors
    /// When the database is gone; the lease then still lasts for a while.
    pub async fn renew(&self, lease: &Lease, progress: Option<&Json>) -> Result<LeaseState> {
        let sql = format!(
            "UPDATE jobs SET lease_until_ms = NOW_MS + $4, progress = COALESCE($5, progress) \
             WHERE {HELD} RETURNING cancel_requested, wish"
        );
        let progress: Option<String> = progress.map(Json::to_string);
        let values = lease.values().into_iter().chain([LEASE_MS.into(), progress.into()]);
        let statement = self.database.statement(&sql, values);
        let row = self.database.writer().query_one_raw(statement).await?;
        LeaseState::from_row(row)
    }

    /// As [`renew`](Self::renew), without a sign of life: cheap enough to ask often.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn look(&self, lease: &Lease) -> Result<LeaseState> {
        let sql = format!("SELECT cancel_requested, wish FROM jobs WHERE {HELD}");
        let statement = self.database.statement(&sql, lease.values());
        let row = self.database.reader().query_one_raw(statement).await?;
        LeaseState::from_row(row)
    }

    /// Ends a generation and publishes its pictures, both or neither.
    ///
    /// # Errors
    /// When the database refuses; the job is then still running.
    pub async fn complete_generation(
        &self,
        lease: &Lease,
        outputs: Vec<output::Model>,
        report: &Json,
    ) -> Result<Finished> {
        let transaction = self.database.begin().await?;
        let finished = self.end(&transaction, lease, JobStatus::Completed, None).await?;
        if finished == Finished::Accepted {
            let rows = outputs.into_iter().map(|row| row.into_active_model().reset_all());
            output::Entity::insert_many(rows).exec_without_returning(&transaction).await?;
            let sql = "UPDATE generations SET report = $2 WHERE id = $1";
            let values = [lease.job_id.clone().into(), report.to_string().into()];
            transaction.execute_raw(self.database.statement(sql, values)).await?;
            // Its last preview is larger than all else in the row, and nobody looks at it any more.
            let sql = "UPDATE jobs SET progress = NULL WHERE id = $1";
            let statement = self.database.statement(sql, [lease.job_id.clone().into()]);
            transaction.execute_raw(statement).await?;
        }
        transaction.commit().await?;
        Ok(finished)
    }

    /// Gives a job up.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn fail(&self, lease: &Lease, failure: &Failure) -> Result<Finished> {
        let transaction = self.database.begin().await?;
        let finished = self.end(&transaction, lease, JobStatus::Failed, Some(failure)).await?;
        transaction.commit().await?;
        Ok(finished)
    }

    /// Ends a job that the user stopped.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish_cancelled(&self, lease: &Lease) -> Result<Finished> {
        let transaction = self.database.begin().await?;
        let finished = self.end(&transaction, lease, JobStatus::Cancelled, None).await?;
        transaction.commit().await?;
        Ok(finished)
    }

    /// Lets a job wait for the user, who asked for that; or ends it, if the user asked to stop meanwhile.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish_paused(&self, lease: &Lease) -> Result<()> {
        let sql = format!(
            "UPDATE jobs SET status = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'paused' END, \
                 finished_at_ms = CASE WHEN cancel_requested THEN NOW_MS END, \
                 wish = NULL, worker_id = NULL, lease_until_ms = NULL \
             WHERE {HELD} RETURNING *"
        );
        let transaction = self.database.begin().await?;
        let statement = self.database.statement(&sql, lease.values());
        let changed = job::Entity::find().from_raw_sql(statement).one(&transaction).await?;
        match changed {
            Some(job) if job.status()? == JobStatus::Paused => {
                self.tell(&transaction, &job.id, JobStatus::Paused).await?;
            }
            Some(job) => self.tell_end(&transaction, &job).await?,
            None => {}
        }
        Ok(transaction.commit().await?)
    }

    /// A transaction in which the lease holds until it commits; nothing if it is lost.
    pub(crate) async fn begin_held(&self, lease: &Lease) -> Result<Option<DatabaseTransaction>> {
        let transaction = self.database.begin().await?;
        // Changes nothing, but keeps others from taking the job meanwhile.
        let sql = format!("UPDATE jobs SET lease_epoch = lease_epoch WHERE {HELD}");
        let held = transaction.execute_raw(self.database.statement(&sql, lease.values())).await?;
        Ok((held.rows_affected() > 0).then_some(transaction))
    }

    /// The end of a job that did what it should, in the transaction that publishes what came out.
    pub(crate) async fn end_completed(
        &self,
        transaction: &DatabaseTransaction,
        lease: &Lease,
    ) -> Result<Finished> {
        self.end(transaction, lease, JobStatus::Completed, None).await
    }

    /// Puts a job back, as if it had not been claimed: a worker stops and the job is whole.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn put_back(&self, lease: &Lease) -> Result<()> {
        let transaction = self.database.begin().await?;
        let sql = format!(
            "UPDATE jobs SET status = 'queued', worker_id = NULL, lease_until_ms = NULL, progress = NULL \
             WHERE {HELD}"
        );
        let statement = self.database.statement(&sql, lease.values());
        if transaction.execute_raw(statement).await?.rows_affected() > 0 {
            self.tell(&transaction, &lease.job_id, JobStatus::Queued).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// A stage of the job begins: told to whoever watches, and kept for those who come later.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tell_stage(&self, lease: &Lease, stage: &str) -> Result<()> {
        let Some(transaction) = self.begin_held(lease).await? else { return Ok(()) };
        let payload = json!({ "status": JobStatus::Running.public_name(), "stage": stage });
        events::record(&self.database, &transaction, &lease.job_id, "stage", &payload).await?;
        Ok(transaction.commit().await?)
    }

    /// The final state, unless the job is another's or the user asked to stop.
    async fn end(
        &self,
        transaction: &DatabaseTransaction,
        lease: &Lease,
        status: JobStatus,
        failure: Option<&Failure>,
    ) -> Result<Finished> {
        let sql = format!(
            "UPDATE jobs SET status = CASE WHEN cancel_requested THEN 'cancelled' ELSE $4 END, \
                 finished_at_ms = NOW_MS, lease_until_ms = NULL, \
                 error_code = CASE WHEN cancel_requested THEN NULL ELSE $5 END, \
                 error_message = CASE WHEN cancel_requested THEN NULL ELSE $6 END \
             WHERE {HELD} RETURNING *"
        );
        let (code, message) = match failure {
            Some(failure) => (Some(failure.code.clone()), Some(failure.message.clone())),
            None => (None, None),
        };
        let end = [status.name().into(), code.into(), message.into()];
        let statement = self.database.statement(&sql, lease.values().into_iter().chain(end));
        let ended = job::Entity::find().from_raw_sql(statement).one(transaction).await?;
        let Some(ended) = ended else { return Ok(Finished::Fenced) };
        let reached = ended.status()?;
        self.tell_end(transaction, &ended).await?;
        Ok(if reached == status { Finished::Accepted } else { Finished::Cancelled })
    }

    /// Tells of a job's end, with the reason if it failed.
    pub(super) async fn tell_end(
        &self,
        transaction: &DatabaseTransaction,
        ended: &job::Model,
    ) -> Result<()> {
        let status = ended.status()?.public_name();
        let payload = json!({
            "status": status,
            "error_code": ended.error_code,
            "error_message": ended.error_message,
        });
        events::record(&self.database, transaction, &ended.id, status, &payload).await?;
        Ok(())
    }
}

impl Lease {
    /// The values of [`HELD`].
    fn values(&self) -> [sea_orm::Value; 3] {
        [self.job_id.clone().into(), self.worker_id.clone().into(), self.epoch.into()]
    }
}
