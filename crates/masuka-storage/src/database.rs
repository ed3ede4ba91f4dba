//! Connections, transactions and the database's clock, for SQLite and PostgreSQL alike.

use std::time::Duration;

use sea_orm::sqlx::Connection;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait, Value,
};

use crate::error::{Error, Result};

/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 10;

/// The database's clock in milliseconds, what lets claimers pass each other, an array of values, an array of rows.
const SQLITE_WORDS: [(&str, &str); 4] = [
    ("NOW_MS", "CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
    ("SKIP_LOCKED", ""),
    ("JSON_ARRAY", "json_array"),
    ("JSON_LIST", "json_group_array"),
];
const POSTGRES_WORDS: [(&str, &str); 4] = [
    ("NOW_MS", "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"),
    ("SKIP_LOCKED", "FOR UPDATE SKIP LOCKED"),
    ("JSON_ARRAY", "json_build_array"),
    ("JSON_LIST", "json_agg"),
];

/// A database that several processes share.
#[derive(Debug, Clone)]
pub struct Database {
    /// One connection on SQLite, which has one writer: waiting in the pool is fair, waiting on the file is not.
    writer: DatabaseConnection,
    readers: DatabaseConnection,
}

impl Database {
    /// Opens `url`; a missing SQLite file is made.
    ///
    /// # Errors
    /// When the address is of another kind of database, or nothing answers there.
    pub async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            let writer = sea_orm::Database::connect(sqlite(url, 1)).await?;
            let readers = sea_orm::Database::connect(sqlite(url, READERS)).await?;
            return Ok(Self { writer, readers });
        }
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let pool = connect_to_postgres(url).await?;
            return Ok(Self { writer: pool.clone(), readers: pool });
        }
        let kind = url.split_once(':').map(|(scheme, _)| format!(" of kind `{scheme}`"));
        let kind = kind.unwrap_or_default();
        let message = format!("DATABASE_URL{kind}; supported are `sqlite:` and `postgres:`");
        Err(Error::Config(message))
    }

    /// For queries that change nothing.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// For single statements that change something.
    pub fn writer(&self) -> &DatabaseConnection {
        &self.writer
    }

    /// A transaction that will write.
    ///
    /// # Errors
    /// When the database is gone, or locked for longer than the time-out.
    pub async fn begin(&self) -> Result<DatabaseTransaction> {
        let mode = self.is_sqlite().then_some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() };
        Ok(self.writer.begin_with_options(options).await?)
    }

    /// Whether this is SQLite.
    pub fn is_sqlite(&self) -> bool {
        self.writer.get_database_backend() == DbBackend::Sqlite
    }

    /// `sql` with `$1`, `$2`…, and with the words that each database spells in its own way.
    pub fn statement(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        let words = if self.is_sqlite() { SQLITE_WORDS } else { POSTGRES_WORDS };
        let sql = words.iter().fold(sql.to_owned(), |sql, (word, own)| sql.replace(word, own));
        Statement::from_sql_and_values(self.writer.get_database_backend(), sql, values)
    }

    /// Runs `statements` about `id` (their `$1`) in one transaction, in order.
    ///
    /// # Errors
    /// When the database refuses one; then none was run.
    pub(crate) async fn execute_all(&self, statements: &[&str], id: &str) -> Result<()> {
        let transaction = self.begin().await?;
        for sql in statements {
            transaction.execute_raw(self.statement(sql, [id.into()])).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The database's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn now_ms(&self) -> Result<i64> {
        let row = self.readers.query_one_raw(self.statement("SELECT NOW_MS AS now", [])).await?;
        let row = row.ok_or_else(|| Error::corrupt("clock", "no row"))?;
        Ok(row.try_get("", "now")?)
    }

    /// Closes all connections; SQLite's log is folded into its file.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn close(self) -> Result<()> {
        self.readers.close().await?;
        Ok(self.writer.close().await?)
    }
}

/// A pool of connections to the server at `url`, which may hold a password: no error repeats it.
async fn connect_to_postgres(url: &str) -> Result<DatabaseConnection> {
    let address = url.parse::<PgConnectOptions>().map_err(|error| {
        let form = "postgres://user:password@host:5432/database";
        Error::Config(format!("DATABASE_URL is no address ({error}); its form is {form}"))
    })?;
    let mut options = ConnectOptions::new(url);
    options.max_connections(POSTGRES_CONNECTIONS).sqlx_logging(false);
    options.acquire_timeout(BUSY_TIMEOUT);
    match sea_orm::Database::connect(options).await {
        Ok(pool) => Ok(pool),
        // The pool tries until its time is over, and then says only that; one more attempt says why.
        Err(error) => match PgConnection::connect_with(&address).await {
            Err(reason) => Err(Error::Config(format!("DATABASE_URL cannot be used: {reason}"))),
            Ok(_) => Err(error.into()),
        },
    }
}

/// WAL, so that readers and the writer do not wait for each other; full synchronisation, because an acknowledged job
/// must survive a power cut.
fn sqlite(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    // All at once, so that a process never opens more files than at its start.
    options.max_connections(connections).min_connections(connections).sqlx_logging(false);
    options.acquire_timeout(BUSY_TIMEOUT * 3);
    options.idle_timeout(None::<Duration>).max_lifetime(None::<Duration>);
    // A file does not hang up; asking a connection first costs as much as most of our queries.
    options.test_before_acquire(false);
    // A full disk ends a transaction within SQLite, and sqlx counts it as open: what would be committed on such a
    // connection afterwards would be part of it, and lost. Such a connection is closed.
    options.map_sqlx_sqlite_pool_opts(|pool| {
        pool.before_acquire(|connection, _| {
            Box::pin(async move { Ok(!connection.is_in_transaction()) })
        })
    });
    options.map_sqlx_sqlite_opts(|options| {
        options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
    });
    options
}
