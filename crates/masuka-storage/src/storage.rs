//! All of it behind one door.

use std::path::PathBuf;

use uuid::Uuid;

use crate::blobs::{BlobKey, Blobs, UrlSigner};
use crate::config::{BlobConfig, StorageConfig};
use crate::database::Database;
use crate::datasets::Datasets;
use crate::disk;
use crate::error::{Error, Result};
use crate::file_cache::FileCache;
use crate::generations::Generations;
use crate::lora_models::LoraModels;
use crate::migrations::migrate;
use crate::processes::Processes;
use crate::queue::Queue;
use crate::settings;
use crate::trainings::Trainings;

/// Where a client may read a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Path and query at any server of this installation.
    Here(String),
    /// A whole URL.
    Elsewhere(String),
}

/// Rows and blobs. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Storage {
    database: Database,
    blobs: Blobs,
    signer: UrlSigner,
    cache: FileCache,
    data_dir: PathBuf,
}

impl Storage {
    /// Opens what `config` names, and brings the schema up to date.
    ///
    /// # Errors
    /// When database or folder cannot be opened.
    pub async fn open(config: &StorageConfig) -> Result<Self> {
        let folder = &config.data_dir;
        disk::make_private_folder(folder).map_err(|e| Error::io(folder, e))?;
        if config.database_url.is_none() {
            // SQLite gives its other files the same rights.
            let file = config.database_file();
            disk::make_private_file(&file).map_err(|e| Error::io(&file, e))?;
        }
        let database = Database::open(config.database_url().expose()).await?;
        migrate(&database).await?;
        let blobs = match &config.blobs {
            BlobConfig::Local => Blobs::local(&config.files_dir())?,
            BlobConfig::S3(bucket) => Blobs::s3(bucket)?,
        };
        let fresh = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let secret = settings::get_or_init(&database, settings::URL_SECRET, &fresh).await?;
        let signer = UrlSigner::new(&secret);
        let cache = FileCache::new(folder.join("cache"), config.cache);
        Ok(Self { database, blobs, signer, cache, data_dir: folder.clone() })
    }

    /// The rows.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The files.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Signs URLs of files.
    pub fn signer(&self) -> &UrlSigner {
        &self.signer
    }

    /// What all processes of this studio, and only they, know it by.
    pub fn studio(&self) -> String {
        self.signer.word("studio")
    }

    /// Where a client may read `key` for at least an hour.
    pub fn link(&self, key: &BlobKey, now_seconds: i64) -> Link {
        match self.blobs.url(key, now_seconds) {
            Some(url) => Link::Elsewhere(url),
            None => Link::Here(self.signer.sign(key, now_seconds)),
        }
    }

    /// The jobs.
    pub fn queue(&self) -> Queue {
        Queue::new(self.database.clone())
    }

    /// The pictures.
    pub fn generations(&self) -> Generations {
        Generations::new(self.database.clone())
    }

    /// The LoRA.
    pub fn lora_models(&self) -> LoraModels {
        LoraModels::new(self.database.clone())
    }

    /// The data sets.
    pub fn datasets(&self) -> Datasets {
        Datasets::new(self.database.clone())
    }

    /// The trainings.
    pub fn trainings(&self) -> Trainings {
        Trainings::new(self.database.clone())
    }

    /// Where trainings are worked on, a folder each; what must last is in the blobs.
    pub fn training_folder(&self) -> PathBuf {
        self.data_dir.join("training")
    }

    /// A file of this machine with the content of `key`: the blob itself where blobs are local files.
    ///
    /// # Errors
    /// When the blob is not there.
    pub async fn local_copy(&self, key: &BlobKey, sha256: &str) -> Result<PathBuf> {
        if let Some(path) = self.blobs.local_path(key) {
            return match self.blobs.size(key).await? {
                Some(_) => Ok(path),
                None => Err(Error::not_found("file", key.as_str())),
            };
        }
        self.cache.get(&self.blobs, key, sha256).await
    }

    /// A file that does not exist yet, for what arrives and is not checked.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new_upload_path(&self) -> Result<PathBuf> {
        let folder = self.data_dir.join("uploads");
        disk::make_private_folder(&folder).map_err(|e| Error::io(&folder, e))?;
        Ok(folder.join(Uuid::new_v4().simple().to_string()))
    }

    /// Servers and workers.
    pub fn processes(&self) -> Processes {
        Processes::new(self.database.clone(), &self.data_dir)
    }
}
