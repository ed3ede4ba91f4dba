//! Which database and which blobs. Reading the environment is the business of the binary.

use std::path::{Path, PathBuf};

use crate::file_cache::CacheLimits;
use crate::secret::Secret;

pub use crate::blobs::S3Config;

/// Where rows and blobs are kept.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The folder of everything that this machine keeps: locks, sockets and, by default, database and blobs.
    pub data_dir: PathBuf,
    /// `sqlite:…` or `postgres://…`; `None` is SQLite in the data folder.
    pub database_url: Option<Secret>,
    /// `nats://…`: carries signals between machines; without it PostgreSQL does.
    pub nats_url: Option<Secret>,
    /// Where blobs are kept.
    pub blobs: BlobConfig,
    /// How much of the blobs may be copied for the engine, where they are not files of this machine.
    pub cache: CacheLimits,
}

/// Where blobs are kept.
#[derive(Debug, Clone)]
pub enum BlobConfig {
    /// In `files/` of the data folder.
    Local,
    /// In a bucket.
    S3(S3Config),
}

impl StorageConfig {
    /// SQLite and local files under `data_dir`.
    pub fn local(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            database_url: None,
            nats_url: None,
            blobs: BlobConfig::Local,
            cache: CacheLimits::default(),
        }
    }

    /// The database's address.
    pub fn database_url(&self) -> Secret {
        let local = || format!("sqlite:{}", self.database_file().display()).into();
        self.database_url.clone().unwrap_or_else(local)
    }

    /// Where the database lies, if no other is named.
    pub(crate) fn database_file(&self) -> PathBuf {
        self.data_dir.join("masuka.db")
    }

    /// The folder of local blobs.
    pub fn files_dir(&self) -> PathBuf {
        self.data_dir.join("files")
    }
}
