//! Base models from a hub that speaks like Hugging Face's, kept in the layout of its own cache, so that other programs
//! find what was fetched here: `models--{owner}--{name}/{blobs,refs,snapshots}`.

mod model; // how a model is named
mod listing; // what it consists of
mod cache; // its folder here

use std::fs;
use std::path::{Path, PathBuf};

use super::{Arrived, Downloader, Reach, Told, Url, Wanted};
use crate::disk;
use crate::error::{Error, Result};
use crate::secret::Secret;

use listing::{Listing, Sibling, choose};

pub use model::HubModel;

/// The longest list of files that is read.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// A hub, and where its models are kept here.
#[derive(Debug, Clone)]
pub struct Hub {
    /// `https://huggingface.co`, or a mirror.
    pub endpoint: Url,
    /// Sent to the endpoint and to no other host.
    pub token: Option<Secret>,
    /// The cache's folder, `hub` of Hugging Face's own.
    pub cache: PathBuf,
    /// Where the endpoint may send a download on to.
    pub reach: Reach,
}

/// How far an installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installing {
    /// The file that is fetched.
    pub file: String,
    /// Bytes of the whole model on disk.
    pub bytes: u64,
    /// Bytes of the whole model.
    pub total: u64,
}

/// A revision of a model that the hub knows, with the files of it that are needed.
#[derive(Debug, Clone)]
pub struct Found {
    model: HubModel,
    sha: String,
    files: Vec<Sibling>,
    /// Where the model is kept.
    folder: PathBuf,
}

impl Found {
    /// Bytes of all its files.
    pub fn total(&self) -> u64 {
        self.files.iter().fold(0, |total, file| total.saturating_add(file.size))
    }
}

impl Hub {
    /// Fetches what is missing of `model`, and says where it lies: a folder in diffusers' layout, or a file.
    ///
    /// # Errors
    /// Those of [`Self::look_up`] and [`Self::fetch`].
    pub async fn install(
        &self,
        model: &HubModel,
        told: &mut (dyn FnMut(&Installing) -> bool + Send),
    ) -> Result<PathBuf> {
        self.fetch(&self.look_up(model).await?, told).await
    }

    /// Asks the hub what `model` consists of, and whether the disk can hold it; nothing is fetched.
    ///
    /// # Errors
    /// [`Error::Download`] with the remedy, or the disk is too small.
    pub async fn look_up(&self, model: &HubModel) -> Result<Found> {
        let listing = self.list(&Downloader::new(self.reach.clone())?, model).await?;
        let files = choose(model, listing.siblings)?;
        let folder = self.folder_of(model);
        fs::create_dir_all(folder.join("blobs")).map_err(|error| Error::io(&folder, error))?;
        self.check_room(&folder, &files)?;
        Ok(Found { model: model.clone(), sha: listing.sha, files, folder })
    }

    /// Fetches what is missing, and says where it lies: a folder in diffusers' layout, or a file.
    ///
    /// # Errors
    /// [`Error::Download`] with the remedy, [`Error::Stopped`] by `told`, or the disk refuses. What has arrived is kept.
    pub async fn fetch(
        &self,
        found: &Found,
        told: &mut (dyn FnMut(&Installing) -> bool + Send),
    ) -> Result<PathBuf> {
        let Found { model, sha, files, folder } = found;
        let downloader = Downloader::new(self.reach.clone())?;
        let io = |error| Error::io(folder, error);
        let _lock = cache::lock(folder).await.map_err(io)?;
        let total = found.total();
        let mut done = 0;
        for file in files {
            let mut arrived = |arrived: Arrived| {
                let bytes = done + arrived.bytes;
                told(&Installing { file: file.rfilename.clone(), bytes, total })
            };
            self.fetch_file(&downloader, found, file, &mut arrived).await?;
            done += file.size;
        }
        let refs = folder.join("refs");
        fs::create_dir_all(&refs).map_err(io)?;
        fs::write(refs.join(&model.revision), sha).map_err(io)?;
        let snapshot = folder.join("snapshots").join(sha);
        Ok(model.file.as_ref().map_or(snapshot.clone(), |file| snapshot.join(file)))
    }

    async fn list(&self, downloader: &Downloader, model: &HubModel) -> Result<Listing> {
        let path = format!("api/models/{}/revision/{}?blobs=true", model.repo, model.revision);
        let wanted = self.wanted(&path, MAX_LIST_BYTES)?;
        let text = downloader.text(&wanted).await.map_err(|e| self.explain(model, e))?;
        serde_json::from_str(&text).map_err(|e| {
            Error::download(&wanted.url, format!("the hub's answer is not understood: {e}"))
        })
    }

    /// Fetches a file unless it is there, and links it into the snapshot.
    async fn fetch_file(
        &self,
        downloader: &Downloader,
        found: &Found,
        file: &Sibling,
        told: &mut Told<'_>,
    ) -> Result<()> {
        let Found { model, sha, folder, .. } = found;
        let id = file.id()?;
        let blob = folder.join("blobs").join(id);
        let io = |error| Error::io(&blob, error);
        if !blob.exists() {
            let incomplete = blob.with_extension("incomplete");
            let path = format!("{}/resolve/{sha}/{}", model.repo, file.rfilename);
            let wanted = Wanted {
                bytes: Some(file.size),
                sha256: file.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
                ..self.wanted(&path, file.size.max(1))?
            };
            let fetched = downloader.fetch(&wanted, &incomplete, told).await;
            fetched.map_err(|error| self.explain(model, error))?;
            fs::rename(&incomplete, &blob).map_err(io)?;
        }
        let link = folder.join("snapshots").join(sha).join(&file.rfilename);
        if !link.exists() {
            let up = "../".repeat(file.rfilename.split('/').count() + 1);
            fs::create_dir_all(link.parent().unwrap_or(folder)).map_err(io)?;
            drop(fs::remove_file(&link)); // one that leads nowhere
            std::os::unix::fs::symlink(format!("{up}blobs/{id}"), &link).map_err(io)?;
        }
        Ok(())
    }

    fn wanted(&self, path: &str, max_bytes: u64) -> Result<Wanted> {
        let base = self.endpoint.as_str().trim_end_matches('/');
        let url = format!("{base}/{path}");
        let url = url.parse().map_err(|e| Error::download(&url, format!("is no address: {e}")))?;
        Ok(Wanted { url, token: self.token.clone(), max_bytes, bytes: None, sha256: None })
    }

    /// Refuses before the first byte what the disk cannot hold in the end.
    fn check_room(&self, folder: &Path, files: &[Sibling]) -> Result<()> {
        let mut missing = 0u64;
        for file in files {
            let blob = folder.join("blobs").join(file.id()?);
            let part = blob.with_extension("incomplete").metadata().map_or(0, |part| part.len());
            let rest = if blob.exists() { 0 } else { file.size.saturating_sub(part) };
            missing = missing.saturating_add(rest);
        }
        match disk::free_bytes(folder) {
            Some(free) if free < missing => {
                let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                let message = format!(
                    "the disk is full: {:.1} GiB are to be fetched, {:.1} GiB are free; make room, or set HF_HOME to \
                     a larger disk",
                    gib(missing),
                    gib(free)
                );
                Err(Error::io(
                    folder,
                    std::io::Error::new(std::io::ErrorKind::StorageFull, message),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What a person can do about an answer.
    fn explain(&self, model: &HubModel, error: Error) -> Error {
        let Error::Download { url, status, reason } = error else { return error };
        let page = format!("{}/{}", self.endpoint.as_str().trim_end_matches('/'), model.repo);
        let has_token = self.token.is_some();
        let remedy = match status {
            Some(401) if !has_token => format!(
                "; the model is gated or private: accept its licence at {page}, make a token there with read access, \
                 and set HF_TOKEN to it"
            ),
            Some(401 | 403) => format!(
                "; HF_TOKEN is not accepted for this model: accept its licence at {page} with the token's account"
            ),
            Some(404) => format!(
                "; the hub does not know it, it has no revision `{}`, or it is private",
                model.revision
            ),
            _ => return Error::Download { url, status, reason },
        };
        Error::Download { url: model.to_string(), status, reason: reason + &remedy }
    }
}
