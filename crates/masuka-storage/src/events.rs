//! What happened to jobs, in the order of ids that the database gives. Steps are no events: of those only the latest
//! matters, and it stands in the job's row.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};
use serde_json::Value;

use crate::database::Database;
use crate::entities::job_event::{Column, Entity, Model};
use crate::error::{Error, Result};

/// Writes an event in the transaction that makes it true.
///
/// Ids become visible in their own order: on PostgreSQL writers of events take turns until they commit, so that a
/// reader who has seen id n misses nothing below it.
pub(crate) async fn record(
    database: &Database,
    transaction: &DatabaseTransaction,
    job_id: &str,
    kind: &str,
    payload: &Value,
) -> Result<i64> {
    if !database.is_sqlite() {
        transaction.execute_unprepared("SELECT pg_advisory_xact_lock(7275002)").await?;
    }
    let sql = "INSERT INTO job_events (job_id, kind, payload, at_ms) VALUES ($1, $2, $3, NOW_MS) RETURNING id";
    let values = [job_id.into(), kind.into(), payload.to_string().into()];
    let row = transaction.query_one_raw(database.statement(sql, values)).await?;
    let row = row.ok_or_else(|| Error::corrupt("event", "no id"))?;
    Ok(row.try_get("", "id")?)
}

/// What a change is about, and what is told of it.
pub(crate) struct Told<'a> {
    /// Its name in an error, such as `job`.
    pub(crate) what: &'static str,
    /// The job.
    pub(crate) id: &'a str,
    /// The event.
    pub(crate) kind: &'a str,
    /// What belongs to it.
    pub(crate) payload: Value,
}

/// Makes a change together with the event that tells of it; one that changes nothing is [`Error::NotFound`].
pub(crate) async fn change(
    database: &Database,
    change: Statement,
    Told { what, id, kind, payload }: Told<'_>,
) -> Result<()> {
    let transaction = database.begin().await?;
    if transaction.execute_raw(change).await?.rows_affected() == 0 {
        return Err(Error::not_found(what, id));
    }
    record(database, &transaction, id, kind, &payload).await?;
    Ok(transaction.commit().await?)
}

/// Events after the id `after`, oldest first, of one job or of all.
///
/// # Errors
/// When the database is gone.
pub async fn since(
    database: &Database,
    after: i64,
    job_id: Option<&str>,
    limit: u64,
) -> Result<Vec<Model>> {
    let mut query = Entity::find().filter(Column::Id.gt(after));
    if let Some(job_id) = job_id {
        query = query.filter(Column::JobId.eq(job_id));
    }
    Ok(query.order_by_asc(Column::Id).limit(limit).all(database.reader()).await?)
}

/// The id of the newest event; 0 before the first.
///
/// # Errors
/// When the database is gone.
pub async fn latest_id(database: &Database) -> Result<i64> {
    let newest = Entity::find().order_by_desc(Column::Id).one(database.reader()).await?;
    Ok(newest.map_or(0, |event| event.id))
}
