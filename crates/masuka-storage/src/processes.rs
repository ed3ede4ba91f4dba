//! Servers and workers, and which of them live. On one machine a process holds a lock on a file of its own for as
//! long as it lives, so that its death is known at once; of other machines only the lease tells.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};
use serde_json::Value as Json;

use crate::database::Database;
use crate::entities::process;
use crate::error::{Error, Result};

/// A process that has not been seen for this long counts as gone where there is no lock to ask.
const SEEN_WITHIN_MS: i64 = 30_000;

/// What a process says about itself.
#[derive(Debug, Clone)]
pub struct NewProcess {
    /// A UUID.
    pub id: String,
    /// `server` or `worker`.
    pub role: &'static str,
    /// The server that started it.
    pub supervisor_id: Option<String>,
    /// Devices, queues, loaded models.
    pub state: Json,
}

/// Whether a worker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It holds its lock.
    Alive,
    /// Its lock is free.
    Dead(Supervisor),
    /// It runs elsewhere.
    Unknown(Supervisor),
}

/// The server that started a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// The worker was started by hand.
    None,
    /// It lives, and will tell of its worker's death.
    Lives,
    /// It is gone, and its worker with it.
    Dead,
}

/// All processes over one database, seen from one data folder.
#[derive(Debug, Clone)]
pub struct Processes {
    database: Database,
    locks: PathBuf,
}

/// Holds a process's lock; dropped, the process counts as dead.
#[derive(Debug)]
pub struct ProcessLock {
    _file: File,
}

impl Processes {
    /// The processes over `database` whose locks lie in `data_dir`.
    pub fn new(database: Database, data_dir: &Path) -> Self {
        Self { database, locks: data_dir.join("locks") }
    }

    /// Enters this process, which lives until the lock is dropped.
    ///
    /// # Errors
    /// When the lock cannot be taken or the database refuses.
    pub async fn enter(&self, new: &NewProcess) -> Result<ProcessLock> {
        let lock = self.lock(&new.id)?;
        let sql = "INSERT INTO processes (id, role, supervisor_id, pid, state, started_at_ms, seen_at_ms) \
                   VALUES ($1, $2, $3, $4, $5, NOW_MS, NOW_MS)";
        let values = [
            new.id.clone().into(),
            new.role.into(),
            new.supervisor_id.clone().into(),
            i64::from(std::process::id()).into(),
            new.state.to_string().into(),
        ];
        self.database.writer().execute_raw(self.database.statement(sql, values)).await?;
        Ok(lock)
    }

    /// A sign of life, with what the process says about itself.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn touch(&self, id: &str, state: &Json) -> Result<()> {
        let sql = "UPDATE processes SET seen_at_ms = NOW_MS, state = $2 WHERE id = $1";
        let values = [id.into(), state.to_string().into()];
        self.database.writer().execute_raw(self.database.statement(sql, values)).await?;
        Ok(())
    }

    /// Forgets a process that has ended, and its lock.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn leave(&self, id: &str) -> Result<()> {
        let statement = self.database.statement("DELETE FROM processes WHERE id = $1", [id.into()]);
        self.database.writer().execute_raw(statement).await?;
        drop(fs::remove_file(self.lock_path(id)));
        Ok(())
    }

    /// Every process that lives, as far as can be told from here.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn living(&self) -> Result<Vec<process::Model>> {
        let now_ms = self.database.now_ms().await?;
        let query = process::Entity::find().order_by_asc(process::Column::StartedAtMs);
        let all = query.all(self.database.reader()).await?;
        let lives = |row: &process::Model| {
            self.holds_lock(&row.id).unwrap_or(row.seen_at_ms + SEEN_WITHIN_MS > now_ms)
        };
        Ok(all.into_iter().filter(lives).collect())
    }

    /// Forgets processes that are dead for certain and have no job left.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_dead(&self) -> Result<()> {
        let sql = "SELECT id FROM processes p WHERE NOT EXISTS \
                   (SELECT 1 FROM jobs j WHERE j.status = 'running' AND j.worker_id = p.id)";
        let rows = self.database.reader().query_all_raw(self.database.statement(sql, [])).await?;
        for row in rows {
            let id: String = row.try_get("", "id")?;
            if self.holds_lock(&id) == Some(false) && !self.supervises(&id).await? {
                self.leave(&id).await?;
            }
        }
        Ok(())
    }

    /// Whether the worker `id` lives.
    ///
    /// # Errors
    /// When the database is gone.
    pub async fn liveness(&self, id: &str) -> Result<Liveness> {
        let lock = self.holds_lock(id);
        if lock == Some(true) {
            return Ok(Liveness::Alive);
        }
        let row = process::Entity::find_by_id(id).one(self.database.reader()).await?;
        let supervisor = match row.and_then(|row| row.supervisor_id) {
            None => Supervisor::None,
            Some(id) if self.lives(&id).await? => Supervisor::Lives,
            Some(_) => Supervisor::Dead,
        };
        Ok(match lock {
            Some(_) => Liveness::Dead(supervisor),
            None => Liveness::Unknown(supervisor),
        })
    }

    async fn lives(&self, id: &str) -> Result<bool> {
        if let Some(held) = self.holds_lock(id) {
            return Ok(held);
        }
        let row = process::Entity::find_by_id(id).one(self.database.reader()).await?;
        let Some(row) = row else { return Ok(false) };
        Ok(row.seen_at_ms + SEEN_WITHIN_MS > self.database.now_ms().await?)
    }

    async fn supervises(&self, id: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM processes WHERE supervisor_id = $1";
        let row =
            self.database.reader().query_one_raw(self.database.statement(sql, [id.into()])).await?;
        Ok(row.is_some())
    }

    /// Whether the process holds its lock; `None` if it has none here.
    fn holds_lock(&self, id: &str) -> Option<bool> {
        let file = File::open(self.lock_path(id)).ok()?;
        match file.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        }
    }

    fn lock(&self, id: &str) -> Result<ProcessLock> {
        let path = self.lock_path(id);
        let take = || -> io::Result<File> {
            fs::create_dir_all(&self.locks)?;
            let file = File::create(&path)?;
            file.lock()?;
            Ok(file)
        };
        let file = take().map_err(|e| Error::io(&path, e))?;
        Ok(ProcessLock { _file: file })
    }

    fn lock_path(&self, id: &str) -> PathBuf {
        self.locks.join(format!("{id}.lock"))
    }
}
