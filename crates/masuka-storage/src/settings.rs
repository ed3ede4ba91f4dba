//! Values that all processes share: the secret of signed URLs, the default base model, whether the queue is paused.

use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::database::Database;
use crate::error::Result;

/// The queue hands out nothing while this is set.
pub(crate) const QUEUE_PAUSED: &str = "queue_paused";
/// The base model of requests that name none, where a user has chosen it.
pub(crate) const DEFAULT_BASE_MODEL: &str = "default_base_model";
/// Signs the URLs of local files.
pub(crate) const URL_SECRET: &str = "url_secret";

/// The value of `name`, if it is set.
///
/// # Errors
/// When the database is gone.
pub async fn get(database: &Database, name: &str) -> Result<Option<String>> {
    read(database, database.reader(), name).await
}

/// Sets `name`, whatever it was.
///
/// # Errors
/// When the database refuses.
pub async fn set(database: &Database, name: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    let statement = database.statement(sql, [name.into(), value.into()]);
    database.writer().execute_raw(statement).await?;
    Ok(())
}

/// Removes `name`.
///
/// # Errors
/// When the database refuses.
pub async fn unset(database: &Database, name: &str) -> Result<()> {
    let statement = database.statement("DELETE FROM settings WHERE name = $1", [name.into()]);
    database.writer().execute_raw(statement).await?;
    Ok(())
}

/// The value of `name`, which becomes `initial` if no process has set it before.
///
/// # Errors
/// When the database refuses.
pub async fn get_or_init(database: &Database, name: &str, initial: &str) -> Result<String> {
    if let Some(value) = get(database, name).await? {
        return Ok(value);
    }
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    let statement = database.statement(sql, [name.into(), initial.into()]);
    database.writer().execute_raw(statement).await?;
    let value = read(database, database.writer(), name).await?;
    Ok(value.unwrap_or_else(|| initial.to_owned()))
}

async fn read(
    database: &Database,
    connection: &DatabaseConnection,
    name: &str,
) -> Result<Option<String>> {
    let statement = database.statement("SELECT value FROM settings WHERE name = $1", [name.into()]);
    let row = connection.query_one_raw(statement).await?;
    Ok(row.map(|row| row.try_get("", "value")).transpose()?)
}
