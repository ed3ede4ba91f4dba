//! A file that is not whole yet, with the hash of what is there.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::Downloaded;
use crate::disk;
use crate::error::{Error, Result};

/// What stays free on the disk whatever is downloaded.
const LEAVE_FREE: u64 = 64 << 20;

pub(super) struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    hash: Sha256,
    /// The file's ETag, as of the last answer.
    pub tag: Option<String>,
}

impl Part {
    /// What lies at `path`, or an empty file.
    pub async fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path).await;
        let mut file = opened.map_err(|e| Error::io(path, e))?;
        let (mut bytes, mut hash) = (0, Sha256::new());
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).await.map_err(|e| Error::io(path, e))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            bytes += count as u64;
        }
        Ok(Self { path: path.to_owned(), file, bytes, hash, tag: None })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub async fn write(&mut self, chunk: &[u8]) -> Result<()> {
        self.file.write_all(chunk).await.map_err(|e| self.failed(e))?;
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Forgets what is there.
    pub async fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).await.map_err(|e| self.failed(e))?;
        self.file.rewind().await.map_err(|e| self.failed(e))?;
        (self.bytes, self.hash) = (0, Sha256::new());
        Ok(())
    }

    /// Refuses early what the disk cannot hold.
    pub fn check_room(&self, total: Option<u64>) -> Result<()> {
        let (Some(total), Some(free)) = (total, disk::free_bytes(&self.path)) else {
            return Ok(());
        };
        let missing = total.saturating_sub(self.bytes);
        if missing + LEAVE_FREE <= free {
            return Ok(());
        }
        Err(disk_full(&self.path, missing, free))
    }

    /// Everything is on disk.
    pub async fn finish(mut self) -> Result<Downloaded> {
        self.file.flush().await.map_err(|e| self.failed(e))?;
        self.file.sync_all().await.map_err(|e| self.failed(e))?;
        let sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Downloaded { bytes: self.bytes, sha256 })
    }

    fn failed(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::StorageFull {
            return disk_full(&self.path, 0, 0);
        }
        Error::io(&self.path, error)
    }
}

fn disk_full(path: &Path, missing: u64, free: u64) -> Error {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let reason = format!(
        "the disk is full ({} MiB are needed, {} MiB free); make room and try again, what has arrived is kept",
        mib(missing),
        mib(free)
    );
    Error::io(path, io::Error::new(io::ErrorKind::StorageFull, reason))
}
