//! Files by key: in a local folder or, with the same code, in S3.

mod key; // names that are safe everywhere
mod signed_url; // URLs that let in for a while

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

use crate::error::{Error, Result};

pub use key::BlobKey;
pub use signed_url::UrlSigner;

/// Parts of this size are written at once; S3 wants at least 5 MiB, R2 all of one size.
const PART_BYTES: usize = 8 << 20;

/// All files.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Where the files are, if they are files of this machine.
    folder: Option<PathBuf>,
}

/// A file, or a part of it, as it comes.
pub struct BlobStream {
    /// Size of the whole file.
    pub total_bytes: u64,
    /// The part that comes.
    pub range: Range<u64>,
    /// The bytes.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl Blobs {
    /// The files of a local folder. A file is written under another name, synchronised and renamed, so that half of
    /// one is never seen.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn local(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        let store = Arc::new(store.with_automatic_cleanup(true));
        Ok(Self { store, folder: Some(folder.to_owned()) })
    }

    /// The file of `key`, where blobs are files of this machine.
    pub fn local_path(&self, key: &BlobKey) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(key.as_str()))
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// When the store refuses; nothing is left then.
    pub async fn put(&self, key: &BlobKey, content: impl Into<Bytes>) -> Result<()> {
        self.store.put(&key.path(), PutPayload::from_bytes(content.into())).await?;
        Ok(())
    }

    /// Writes the file at `path` without holding it in memory.
    ///
    /// # Errors
    /// When it cannot be read or the store refuses.
    pub async fn put_file(&self, key: &BlobKey, path: &Path) -> Result<()> {
        use tokio::io::AsyncReadExt;
        let mut file = tokio::fs::File::open(path).await.map_err(|e| Error::io(path, e))?;
        let upload = self.store.put_multipart(&key.path()).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).await.map_err(|e| Error::io(path, e))?;
            if count == 0 {
                break;
            }
            writer.wait_for_capacity(2).await?;
            writer.write(&buffer[..count]);
        }
        writer.finish().await?;
        Ok(())
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store is gone.
    pub async fn get(&self, key: &BlobKey) -> Result<Bytes> {
        let result = self.store.get(&key.path()).await.map_err(|e| missing(e, key))?;
        Ok(result.bytes().await?)
    }

    /// Reads a file, or a part of it, as a stream; the range is cut at the end of the file.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store is gone.
    pub async fn stream(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<BlobStream> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let result =
            self.store.get_opts(&key.path(), options).await.map_err(|e| missing(e, key))?;
        let (total_bytes, range) = (result.meta.size, result.range.clone());
        let bytes = result.into_stream().map_err(Error::from).boxed();
        Ok(BlobStream { total_bytes, range, bytes })
    }

    /// Size of a file; `None` if it is not there.
    ///
    /// # Errors
    /// When the store is gone.
    pub async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        match self.store.head(&key.path()).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every key below `folder`, with its size.
    ///
    /// # Errors
    /// When the store is gone.
    pub async fn list(&self, folder: &BlobKey) -> Result<Vec<(BlobKey, u64)>> {
        let found: Vec<_> = self.store.list(Some(&folder.path())).try_collect().await?;
        found
            .into_iter()
            .map(|meta| Ok((BlobKey::parse(meta.location.as_ref())?, meta.size)))
            .collect()
    }

    /// Deletes one file; it is no error if it is not there.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.store.delete(&key.path()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes every file below `folder`; it is no error if there is none.
    ///
    /// # Errors
    /// When the store refuses; the rest can be deleted by another call.
    pub async fn delete_all(&self, folder: &BlobKey) -> Result<usize> {
        let keys = self.list(folder).await?;
        for (key, _) in &keys {
            self.delete(key).await?;
        }
        // What a process that was killed had not renamed yet is in no list.
        if let Some(folder) = self.local_path(folder)
            && let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Error::io(folder, error));
        }
        Ok(keys.len())
    }
}

fn missing(error: object_store::Error, key: &BlobKey) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::not_found("file", key.as_str()),
        other => other.into(),
    }
}
