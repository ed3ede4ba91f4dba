//! Files by key: in a local folder or, with the same code, in S3.

mod key; // names that are safe everywhere
mod s3; // the store in a bucket, and its own URLs
mod signed_url; // URLs that let in for a while

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, WriteMultipart,
};

use crate::disk;
use crate::error::{Error, Result};

use s3::S3Urls;

pub use key::BlobKey;
pub use s3::S3Config;
pub use signed_url::UrlSigner;

/// Parts of this size are written at once; S3 wants at least 5 MiB, R2 all of one size.
const PART_BYTES: usize = 8 << 20;

/// All files.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Where the files are, if they are files of this machine.
    folder: Option<PathBuf>,
    /// Signs for the bucket, if they are in one.
    urls: Option<S3Urls>,
    /// What all paths in the store begin with.
    prefix: ObjectPath,
}

/// A file in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its key.
    pub key: BlobKey,
    /// Its size.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified_ms: i64,
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
        disk::make_private_folder(folder).map_err(|e| Error::io(folder, e))?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        let store = Arc::new(store.with_automatic_cleanup(true));
        Ok(Self {
            store,
            folder: Some(folder.to_owned()),
            urls: None,
            prefix: ObjectPath::default(),
        })
    }

    /// The files of a bucket.
    ///
    /// # Errors
    /// When the configuration contradicts itself; nothing is asked yet.
    pub fn s3(config: &S3Config) -> Result<Self> {
        let store = Arc::new(config.open()?);
        let prefix = ObjectPath::parse(config.prefix.trim_matches('/'))
            .map_err(|error| Error::Config(format!("S3_PREFIX `{}`: {error}", config.prefix)))?;
        let urls = Some(S3Urls::new(store.clone()));
        Ok(Self { store, folder: None, urls, prefix })
    }

    /// Whether they are files of this machine.
    pub fn is_local(&self) -> bool {
        self.folder.is_some()
    }

    /// The store's own URL of `key`, valid for at least an hour, if it has URLs.
    pub(crate) fn url(&self, key: &BlobKey, now_seconds: i64) -> Option<String> {
        self.urls.as_ref()?.sign(&self.path(key), now_seconds)
    }

    fn path(&self, key: &BlobKey) -> ObjectPath {
        self.prefix.parts().chain(key.path().parts()).collect()
    }

    /// What a bucket tells browsers about a file; folders tell nothing.
    fn attributes(&self, key: &BlobKey) -> Attributes {
        let mut attributes = Attributes::new();
        if self.folder.is_none() {
            attributes.insert(Attribute::ContentType, key.content_type().into());
        }
        attributes
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
        let options = PutOptions { attributes: self.attributes(key), ..PutOptions::default() };
        let content = PutPayload::from_bytes(content.into());
        self.store.put_opts(&self.path(key), content, options).await?;
        Ok(())
    }

    /// Writes the file at `path` without holding it in memory.
    ///
    /// # Errors
    /// When it cannot be read or the store refuses.
    pub async fn put_file(&self, key: &BlobKey, path: &Path) -> Result<()> {
        use tokio::io::AsyncReadExt;
        let mut file = tokio::fs::File::open(path).await.map_err(|e| Error::io(path, e))?;
        let attributes = self.attributes(key);
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let upload = self.store.put_multipart_opts(&self.path(key), options).await?;
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
        let result = self.store.get(&self.path(key)).await.map_err(|e| missing(e, key))?;
        Ok(result.bytes().await?)
    }

    /// Reads a file, or a part of it, as a stream; the range is cut at the end of the file.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the store is gone.
    pub async fn stream(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<BlobStream> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let result =
            self.store.get_opts(&self.path(key), options).await.map_err(|e| missing(e, key))?;
        let (total_bytes, range) = (result.meta.size, result.range.clone());
        let bytes = result.into_stream().map_err(Error::from).boxed();
        Ok(BlobStream { total_bytes, range, bytes })
    }

    /// Size of a file; `None` if it is not there.
    ///
    /// # Errors
    /// When the store is gone.
    pub async fn size(&self, key: &BlobKey) -> Result<Option<u64>> {
        match self.store.head(&self.path(key)).await {
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
        let found = self.list_all(folder).await?;
        Ok(found.into_iter().map(|blob| (blob.key, blob.bytes)).collect())
    }

    /// Every file below `folder`; what has a name that is no key of ours is left out.
    ///
    /// # Errors
    /// When the store is gone.
    pub async fn list_all(&self, folder: &BlobKey) -> Result<Vec<StoredBlob>> {
        let found: Vec<_> = self.store.list(Some(&self.path(folder))).try_collect().await?;
        let blob = |meta: ObjectMeta| {
            let parts: Vec<_> = meta.location.prefix_match(&self.prefix)?.collect();
            let names: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            let key = BlobKey::parse(&names.join("/")).ok()?;
            let modified_ms = meta.last_modified.timestamp_millis();
            Some(StoredBlob { key, bytes: meta.size, modified_ms })
        };
        Ok(found.into_iter().filter_map(blob).collect())
    }

    /// Deletes one file; it is no error if it is not there.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, key: &BlobKey) -> Result<()> {
        match self.store.delete(&self.path(key)).await {
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
