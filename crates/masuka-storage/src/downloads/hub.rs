//! Base models from a hub that speaks like Hugging Face's, kept in the layout of its own cache, so that other programs
//! find what was fetched here: `models--{owner}--{name}/{blobs,refs,snapshots}`.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Arrived, Downloader, Reach, Told, Url, Wanted};
use crate::disk;
use crate::error::{Error, Result};

/// The longest list of files that is read.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The folders of a model in diffusers' layout that are needed to draw with it.
const PARTS: [&str; 7] = [
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "transformer",
    "vae",
];
const EXTENSIONS: [&str; 4] = ["json", "model", "safetensors", "txt"];
const INDEX: &str = "model_index.json";
/// The revision that is meant where none is named.
const MAIN: &str = "main";

/// A hub, and where its models are kept here.
#[derive(Debug, Clone)]
pub struct Hub {
    /// `https://huggingface.co`, or a mirror.
    pub endpoint: Url,
    /// Sent to the endpoint and to no other host.
    pub token: Option<String>,
    /// The cache's folder, `hub` of Hugging Face's own.
    pub cache: PathBuf,
    /// Where the endpoint may send a download on to.
    pub reach: Reach,
}

/// A model of the hub: `owner/name`, `owner/name@revision`, either with `:file` for a single file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    repo: String,
    revision: String,
    file: Option<String>,
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

/// What the hub says about a revision.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Clone, Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: u64,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    sha256: String,
}

impl HubModel {
    /// The model that `text` names, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, file) = match text.split_once(':') {
            Some((rest, file)) => (rest, Some(file.to_owned())),
            None => (text, None),
        };
        let (repo, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let (owner, name) = repo.split_once('/')?;
        let is_plain = |part: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
        };
        let is_file = |file: &String| file.split('/').all(is_plain);
        let fits = [owner, name, revision].into_iter().all(is_plain) && file.iter().all(is_file);
        fits.then(|| Self { repo: repo.into(), revision: revision.into(), file })
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.repo
    }

    /// What tells it from the repository's other files: the file without path and extension, else the repository.
    pub fn short_name(&self) -> &str {
        let file = self.file.as_deref().and_then(|file| Path::new(file).file_stem()?.to_str());
        file.unwrap_or_else(|| self.repo.rsplit('/').next().unwrap_or(&self.repo))
    }
}

/// As it is parsed; without the revision where that is the usual one.
impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { repo, revision, file } = self;
        f.write_str(repo)?;
        if revision != MAIN {
            write!(f, "@{revision}")?;
        }
        file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
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
        let folder = self.cache.join(format!("models--{}", model.repo.replace('/', "--")));
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
        let _lock = lock(folder).await.map_err(io)?;
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
        let wanted = self.wanted(&path, MAX_LIST_BYTES, None)?;
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
            let sha256 = file.lfs.as_ref().map(|lfs| lfs.sha256.clone());
            let wanted = self.wanted(&path, file.size.max(1), sha256)?;
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

    fn wanted(&self, path: &str, max_bytes: u64, sha256: Option<String>) -> Result<Wanted> {
        let base = self.endpoint.as_str().trim_end_matches('/');
        let url = format!("{base}/{path}");
        let url = url.parse().map_err(|e| Error::download(&url, format!("is no address: {e}")))?;
        Ok(Wanted { url, token: self.token.clone(), max_bytes, sha256 })
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

impl Sibling {
    /// The name of its blob: the sha256 of large files, git's own of small ones.
    fn id(&self) -> Result<&str> {
        let id = self.lfs.as_ref().map(|lfs| lfs.sha256.as_str()).or(self.blob_id.as_deref());
        let fits = |id: &&str| !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit());
        id.filter(fits).ok_or_else(|| Error::download(&self.rfilename, "the hub gives it no hash"))
    }

    /// Whether its name stays within the snapshot.
    fn is_safe(&self) -> bool {
        self.rfilename.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    }
}

/// The files of a model that are needed.
fn choose(model: &HubModel, siblings: Vec<Sibling>) -> Result<Vec<Sibling>> {
    let siblings: Vec<_> = siblings.into_iter().filter(Sibling::is_safe).collect();
    let names: Vec<_> = siblings.iter().map(|file| file.rfilename.clone()).collect();
    if let Some(wanted) = &model.file {
        let found: Vec<_> = siblings.into_iter().filter(|file| file.rfilename == *wanted).collect();
        return match found.is_empty() {
            true => Err(Error::download(&model.repo, format!("it has no file `{wanted}`"))),
            false => Ok(found),
        };
    }
    if !names.iter().any(|name| name == INDEX) {
        let single =
            names.iter().find(|name| [".safetensors", ".gguf"].iter().any(|e| name.ends_with(e)));
        let example =
            single.map_or(String::new(), |file| format!(", such as `{}:{file}`", model.repo));
        let reason = format!("it is not in diffusers' layout; name one of its files{example}");
        return Err(Error::download(&model.repo, reason));
    }
    Ok(siblings.into_iter().filter(|file| is_needed(&file.rfilename, &names)).collect())
}

fn is_needed(name: &str, names: &[String]) -> bool {
    let Some((folder, file)) = name.split_once('/') else { return name == INDEX };
    let extension = file.rsplit('.').next().unwrap_or_default();
    if !PARTS.contains(&folder) || !EXTENSIONS.contains(&extension) {
        return false;
    }
    // `model.fp16.safetensors` beside `model.safetensors` is the same in other numbers.
    let mut parts = file.split('.');
    let plain = parts.next().map(|stem| format!("{folder}/{stem}.{extension}"));
    let is_variant = parts.count() > 1 && extension == "safetensors";
    !(is_variant && plain.is_some_and(|plain| names.contains(&plain)))
}

/// One process at a time fetches a model; the others wait and find it.
async fn lock(folder: &Path) -> std::io::Result<File> {
    let path = folder.join(".lock");
    let take = move || {
        let file = File::create(path)?;
        file.lock()?;
        Ok(file)
    };
    let taken = tokio::task::spawn_blocking(take).await;
    taken.unwrap_or_else(|_| Err(std::io::Error::other("the lock's thread panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_as_on_the_hub() {
        let check = |text: &str, expected: Option<(&str, &str, Option<&str>)>| {
            let expected = expected.map(|(repo, revision, file)| HubModel {
                repo: repo.into(),
                revision: revision.into(),
                file: file.map(str::to_owned),
            });
            assert_eq!(HubModel::parse(text), expected, "{text}");
            assert!(expected.is_none_or(|model| model.to_string() == text));
        };
        check("a/b", Some(("a/b", "main", None)));
        check(
            "black-forest-labs/FLUX.1-dev@v1",
            Some(("black-forest-labs/FLUX.1-dev", "v1", None)),
        );
        check("city96/FLUX:q4/x.gguf", Some(("city96/FLUX", "main", Some("q4/x.gguf"))));
        for text in ["a", "a/b/c", "../b", "a/..", "a/b:../c", "a/b@", "/etc/passwd", "a/b c", ""] {
            check(text, None);
        }
    }

    #[test]
    fn only_what_is_drawn_with_is_fetched() {
        let all = [
            "README.md",
            "flux1-dev.safetensors",
            "model_index.json",
            "transformer/config.json",
            "transformer/model-00001-of-00002.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer_2/spiece.model",
            "safety_checker/x.json",
        ];
        let names: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
        let needed: Vec<_> = all.into_iter().filter(|name| is_needed(name, &names)).collect();
        assert_eq!(
            needed,
            [
                "model_index.json",
                "transformer/config.json",
                "transformer/model-00001-of-00002.safetensors",
                "vae/diffusion_pytorch_model.safetensors",
                "text_encoder/model.fp16.safetensors",
                "tokenizer/merges.txt",
                "tokenizer_2/spiece.model",
            ]
        );
    }
}
