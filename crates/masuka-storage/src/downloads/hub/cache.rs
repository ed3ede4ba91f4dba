//! The hub's cache here: a folder a model, which one process at a time works on.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::{Hub, HubModel};
use crate::error::{Error, Result};

/// What the name of a model's folder begins with.
const PREFIX: &str = "models--";
const LOCK: &str = ".lock";

/// A model's folder, into which nothing is downloaded while this lives.
#[derive(Debug)]
pub struct CachedModel {
    folder: PathBuf,
    _lock: File,
}

impl Hub {
    pub(super) fn folder_of(&self, model: &HubModel) -> PathBuf {
        self.cache.join(format!("{PREFIX}{}", model.repo.replace('/', "--")))
    }

    /// The model of the cache that `file` belongs to, if it lies in the cache.
    ///
    /// # Errors
    /// [`Error::BeingDownloaded`], or its folder cannot be opened.
    pub fn cached(&self, file: &Path) -> Result<Option<CachedModel>> {
        let cache = std::path::absolute(&self.cache).map_err(|e| Error::io(&self.cache, e))?;
        let name = file.strip_prefix(&cache).ok().and_then(|rest| rest.iter().next());
        let name = name.filter(|name| name.to_string_lossy().starts_with(PREFIX));
        name.map(|name| CachedModel::hold(cache.join(name))).transpose()
    }
}

impl CachedModel {
    fn hold(folder: PathBuf) -> Result<Self> {
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(|e| Error::io(&path, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::BeingDownloaded(folder)),
            Err(TryLockError::Error(error)) => Err(Error::io(path, error)),
        }
    }

    /// Whether `file` lies in it.
    pub fn holds(&self, file: &Path) -> bool {
        file.starts_with(&self.folder)
    }

    /// Removes it with all revisions.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn erase(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, error))
    }
}

/// One process at a time fetches a model; the others wait and find it.
pub(super) async fn lock(folder: &Path) -> std::io::Result<File> {
    let path = folder.join(LOCK);
    let take = move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    };
    let taken = tokio::task::spawn_blocking(take).await;
    taken.unwrap_or_else(|_| Err(std::io::Error::other("the lock's thread panicked")))
}
