//! Which database and which blobs. Reading the environment is the business of the binary.

use std::path::{Path, PathBuf};

/// Where rows and blobs are kept.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The folder of everything that this machine keeps: locks, sockets and, by default, database and blobs.
    pub data_dir: PathBuf,
    /// `sqlite:…` or `postgres://…`; `None` is SQLite in the data folder.
    pub database_url: Option<String>,
    /// Where blobs are kept.
    pub blobs: BlobConfig,
}

/// Where blobs are kept.
#[derive(Debug, Clone)]
pub enum BlobConfig {
    /// In `files/` of the data folder.
    Local,
}

impl StorageConfig {
    /// SQLite and local files under `data_dir`.
    pub fn local(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), database_url: None, blobs: BlobConfig::Local }
    }

    /// The database's address.
    pub fn database_url(&self) -> String {
        let local = || format!("sqlite:{}", self.data_dir.join("masuka.db").display());
        self.database_url.clone().unwrap_or_else(local)
    }

    /// The folder of local blobs.
    pub fn files_dir(&self) -> PathBuf {
        self.data_dir.join("files")
    }
}
