//! Files of the store that the engine needs on this machine: fetched once even by several processes, checked, and
//! removed again when room is needed, who was not used for longest first.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::blobs::{BlobKey, Blobs};
use crate::disk;
use crate::error::{Error, Result};

/// How much a cache may hold.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Of all its files together.
    pub max_bytes: u64,
    /// What it leaves free on its disk.
    pub min_free_bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { max_bytes: 20 << 30, min_free_bytes: 2 << 30 }
    }
}

/// Copies of blobs, by their sha256.
#[derive(Debug, Clone)]
pub(crate) struct FileCache {
    folder: PathBuf,
    limits: CacheLimits,
}

/// A file of the cache.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl FileCache {
    pub(crate) fn new(folder: PathBuf, limits: CacheLimits) -> Self {
        Self { folder, limits }
    }

    /// The file of `key`, fetched now if it is not there.
    ///
    /// # Errors
    /// When the blob is gone or damaged, or the disk has no room.
    pub(crate) async fn get(&self, blobs: &Blobs, key: &BlobKey, sha256: &str) -> Result<PathBuf> {
        let path = self.folder.join(sha256);
        let io = |error| Error::io(&path, error);
        disk::make_private_folder(&self.folder).map_err(io)?;
        // Whoever comes second waits here, and finds the file.
        let lock = self.folder.join(format!("{sha256}.lock"));
        let lock = tokio::task::spawn_blocking(move || lock_file(&lock)).await;
        let _lock =
            lock.map_err(|_| io(io::Error::other("the lock's thread panicked")))?.map_err(io)?;
        if let Ok(file) = File::options().append(true).open(&path) {
            drop(file.set_modified(SystemTime::now())); // says when it was used
            return Ok(path);
        }
        let size = blobs.size(key).await?.ok_or_else(|| Error::not_found("file", key.as_str()))?;
        self.make_room(size).map_err(io)?;
        self.fetch(blobs, key, sha256, &path).await?;
        Ok(path)
    }

    /// Fetches under another name, so that half a file is never taken for one.
    async fn fetch(&self, blobs: &Blobs, key: &BlobKey, sha256: &str, path: &Path) -> Result<()> {
        use futures_util::TryStreamExt;
        use tokio::io::AsyncWriteExt;
        let partial = Partial(path.with_extension(Uuid::new_v4().simple().to_string()));
        let io = |error| Error::io(path, error);
        let mut file = tokio::fs::File::create(&partial.0).await.map_err(io)?;
        let mut content = blobs.stream(key, None).await?.bytes;
        let mut hash = Sha256::new();
        while let Some(chunk) = content.try_next().await? {
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(io)?;
        }
        file.sync_all().await.map_err(io)?;
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != sha256 {
            return Err(Error::Damaged { key: key.to_string(), expected: sha256.into(), found });
        }
        fs::rename(&partial.0, path).map_err(io)
    }

    /// Removes files until `bytes` more fit. What a process has open stays readable to it.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let CacheLimits { max_bytes, min_free_bytes } = self.limits;
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        loop {
            let held: u64 = entries.iter().map(|entry| entry.bytes).sum();
            let free = disk::free_bytes(&self.folder).unwrap_or(u64::MAX);
            if held + bytes <= max_bytes && free >= bytes + min_free_bytes {
                return Ok(());
            }
            let Some(oldest) = entries.pop() else {
                let mib = |bytes: u64| bytes >> 20;
                let message = format!(
                    "{} MiB do not fit the cache: it may hold {} MiB and leaves {} MiB of the disk free, of which {} MiB \
                     are left; make room or raise MASUKA_CACHE_GIB",
                    mib(bytes),
                    mib(max_bytes),
                    mib(min_free_bytes),
                    mib(free)
                );
                return Err(io::Error::new(io::ErrorKind::StorageFull, message));
            };
            fs::remove_file(oldest.path)?;
        }
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let (path, metadata) = match entry.and_then(|e| Ok((e.path(), e.metadata()?))) {
                Ok(found) => found,
                Err(_) => continue, // another process has just removed it
            };
            let is_whole = path.extension().is_none() && metadata.is_file();
            if is_whole {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push(Entry { path, bytes: metadata.len(), used });
            }
        }
        Ok(entries)
    }
}

/// A file on its way, which goes away unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn key(name: &str) -> BlobKey {
        BlobKey::parse(name).unwrap()
    }

    async fn put(blobs: &Blobs, name: &str, content: &[u8]) -> String {
        blobs.put(&key(name), content.to_vec()).await.unwrap();
        Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[tokio::test]
    async fn who_was_not_used_for_longest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(&folder.path().join("files")).unwrap();
        let limits = CacheLimits { max_bytes: 250, min_free_bytes: 0 };
        let cache = FileCache::new(folder.path().join("cache"), limits);
        let mut shas = Vec::new();
        for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
            shas.push(put(&blobs, name, &[byte; 100]).await);
        }
        for (i, name) in ["a", "b"].into_iter().enumerate() {
            let path = cache.get(&blobs, &key(name), &shas[i]).await.unwrap();
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - HOUR * (2 - i as u32)).unwrap();
        }
        cache.get(&blobs, &key("a"), &shas[0]).await.unwrap(); // used again: b is the oldest
        cache.get(&blobs, &key("c"), &shas[2]).await.unwrap();
        let is_there = |sha: &String| cache.folder.join(sha).exists();
        assert_eq!(shas.iter().map(is_there).collect::<Vec<_>>(), [true, false, true]);
    }

    #[tokio::test]
    async fn what_does_not_fit_or_is_damaged_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::local(&folder.path().join("files")).unwrap();
        let sha = put(&blobs, "a", &[7; 100]).await;
        let small = CacheLimits { max_bytes: 50, min_free_bytes: 0 };
        let full = CacheLimits { max_bytes: 500, min_free_bytes: u64::MAX / 2 };
        for limits in [small, full] {
            let cache = FileCache::new(folder.path().join("cache"), limits);
            let error = cache.get(&blobs, &key("a"), &sha).await.unwrap_err();
            assert!(error.to_string().contains("do not fit the cache"), "{error}");
        }
        let cache = FileCache::new(
            folder.path().join("cache"),
            CacheLimits { max_bytes: 500, min_free_bytes: 0 },
        );
        let error = cache.get(&blobs, &key("a"), &"0".repeat(64)).await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(cache.entries().unwrap().is_empty());
    }
}
