//! Pictures and captions as they arrive, loose or in zips. Each file goes to disk as it comes and is looked at there, one
//! after the other: memory holds one decoded picture, whatever is sent.

mod archive; // zips, entry by entry, within limits

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use axum::extract::multipart::Field;
use masuka_storage::blobs::BlobKey;
use masuka_storage::datasets::Added;
use masuka_storage::entities::dataset_image;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::app::App;
use crate::desk::PictureFacts;
use crate::error::{ApiError, ApiResult};
use crate::temporary::TemporaryFile;
use crate::views::dataset::RejectedView;
use archive::Archive;

/// The largest file of a picture; larger ones are no photographs.
const MAX_PICTURE_BYTES: u64 = 256 << 20;
/// The largest file of a caption, whose text is shorter still.
const MAX_TEXT_BYTES: u64 = 64 << 10;
/// As long as prompts may be.
const MAX_CAPTION_CHARS: usize = 4000;
const MAX_NAME_CHARS: usize = 200;

/// Decoded pictures are large: one at a time, whoever sends them.
static DECODING: Semaphore = Semaphore::const_new(1);

/// An upload under way.
pub(crate) struct Intake {
    app: App,
    dataset_id: String,
    received: usize,
    new: BTreeSet<String>,
    /// The pictures of this upload by their names without the ending.
    by_stem: HashMap<String, Named>,
    /// Captions by their files' names; given to pictures at the end, whatever the order of files.
    texts: Vec<(String, String)>,
    rejected: Vec<RejectedView>,
}

/// A picture of this upload.
struct Named {
    id: String,
    /// It was in the dataset before and has a caption, which stays.
    is_captioned: bool,
}

/// What became of an upload.
pub(crate) struct Taken {
    /// Ids of pictures that are new.
    pub(crate) new: BTreeSet<String>,
    pub(crate) rejected: Vec<RejectedView>,
}

impl Intake {
    pub(crate) fn new(app: App, dataset_id: &str) -> Self {
        Self {
            app,
            dataset_id: dataset_id.to_owned(),
            received: 0,
            new: BTreeSet::new(),
            by_stem: HashMap::new(),
            texts: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// Takes one part of the form.
    ///
    /// # Errors
    /// When the upload as a whole cannot go on; a file that cannot be used is no error.
    pub(crate) async fn take(&mut self, mut field: Field<'_>) -> ApiResult<()> {
        let part = field.name().unwrap_or_default().to_owned();
        if part != "files" {
            let message = format!("unknown field `{part}`, expected files");
            return Err(ApiError::invalid(&part, message));
        }
        let name = shown(field.file_name().unwrap_or("picture"));
        let (file, bytes) = self.receive(&mut field).await?;
        self.received += 1;
        if archive::is_zip(file.path()) {
            return self.take_archive(&name, file).await;
        }
        self.take_file(&name, &file, bytes).await
    }

    /// Gives the captions to their pictures and ends.
    ///
    /// # Errors
    /// When nothing was sent, or the database refuses.
    pub(crate) async fn finish(mut self) -> ApiResult<Taken> {
        if self.received == 0 {
            let message = "files is missing; send pictures, captions or zips of both";
            return Err(ApiError::invalid("files", message));
        }
        let mut captions = Vec::new();
        for (name, caption) in std::mem::take(&mut self.texts) {
            match self.picture_of(&name).await? {
                Some(Named { is_captioned: true, .. }) => {}
                Some(Named { id, .. }) => captions.push((id, Some(caption))),
                None => self.reject(name, "is the caption of no picture here"),
            }
        }
        self.app.storage.datasets().caption(&self.dataset_id, &captions).await?;
        Ok(Taken { new: self.new, rejected: self.rejected })
    }

    fn reject(&mut self, file: String, reason: impl Into<String>) {
        self.rejected.push(RejectedView { file, reason: reason.into() });
    }

    /// Writes a part to disk as it comes.
    async fn receive(&self, field: &mut Field<'_>) -> ApiResult<(TemporaryFile, u64)> {
        let file = TemporaryFile::new(&self.app)?;
        let failed = |error| masuka_storage::Error::io(file.path(), error);
        let mut to = tokio::fs::File::create(file.path()).await.map_err(failed)?;
        let (mut bytes, limit) = (0, self.app.options.max_upload_bytes);
        while let Some(chunk) = field.chunk().await.map_err(|e| ApiError::broken_body(&e))? {
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(ApiError::too_large(format!("a file is longer than {limit} bytes")));
            }
            to.write_all(&chunk).await.map_err(failed)?;
        }
        to.flush().await.map_err(failed)?;
        Ok((file, bytes))
    }

    async fn take_archive(&mut self, zip_name: &str, file: TemporaryFile) -> ApiResult<()> {
        let mut archive = match blocking(move || Archive::open(file)).await? {
            Ok(archive) => archive,
            Err(reason) => {
                self.reject(zip_name.to_owned(), reason);
                return Ok(());
            }
        };
        for index in 0..archive.len() {
            let unpacked = TemporaryFile::new(&self.app)?;
            let (back, file, entry) = blocking(move || {
                let entry = archive.unpack(index, unpacked.path());
                (archive, unpacked, entry)
            })
            .await?;
            archive = back;
            let shown_as = format!("{zip_name}/{}", shown(&entry.name));
            match entry.unpacked {
                Ok(Some(bytes)) => self.take_file(&shown_as, &file, bytes).await?,
                Ok(None) => {}
                Err(reason) => self.reject(shown_as, reason),
            }
            if archive.is_exhausted() {
                self.reject(
                    zip_name.to_owned(),
                    "unpacks to far more than its size; the rest is left out",
                );
                break;
            }
        }
        Ok(())
    }

    /// Takes a file that is no zip.
    async fn take_file(&mut self, name: &str, file: &TemporaryFile, bytes: u64) -> ApiResult<()> {
        if name.to_lowercase().ends_with(".txt") {
            match read_caption(file.path(), bytes).await {
                Ok(Some(caption)) => self.texts.push((name.to_owned(), caption)),
                Ok(None) => {}
                Err(reason) => self.reject(name.to_owned(), reason),
            }
            return Ok(());
        }
        if bytes > MAX_PICTURE_BYTES {
            let limit = MAX_PICTURE_BYTES >> 20;
            self.reject(name.to_owned(), format!("is longer than {limit} MiB"));
            return Ok(());
        }
        match self.examine(file.path()).await? {
            Ok(facts) => self.add(name, file.path(), bytes, facts).await,
            Err(reason) => {
                self.reject(name.to_owned(), reason);
                Ok(())
            }
        }
    }

    async fn examine(&self, path: &Path) -> ApiResult<Result<PictureFacts, String>> {
        let (desk, path) = (self.app.desk.clone(), path.to_owned());
        let _turn = DECODING.acquire().await.map_err(ApiError::unavailable)?;
        let examined = tokio::task::spawn_blocking(move || desk.examine_picture(&path)).await;
        Ok(examined.unwrap_or_else(|_| Err("makes the decoder panic".into())))
    }

    /// Stores a picture, unless the dataset has it.
    async fn add(
        &mut self,
        name: &str,
        file: &Path,
        bytes: u64,
        facts: PictureFacts,
    ) -> ApiResult<()> {
        let datasets = self.app.storage.datasets();
        if let Some(known) = datasets.image_with(&self.dataset_id, &facts.pixel_hash).await? {
            self.know(name, &known);
            return Ok(());
        }
        let id = Uuid::now_v7().to_string();
        let folder = format!("datasets/{}", self.dataset_id);
        let key = BlobKey::parse(&format!("{folder}/{id}.{}", facts.extension))?;
        let thumbnail_key = BlobKey::parse(&format!("{folder}/{id}_small.jpg"))?;
        let blobs = self.app.storage.blobs();
        let bytes = facts.upright.as_ref().map_or(bytes, |png| png.len() as u64);
        blobs.put(&thumbnail_key, facts.thumbnail).await?;
        match facts.upright {
            Some(png) => blobs.put(&key, png).await?,
            None => blobs.put_file(&key, file).await?,
        }
        let image = dataset_image::Model {
            id: id.clone(),
            dataset_id: self.dataset_id.clone(),
            file_name: own_name(name).to_owned(),
            blob_key: key.to_string(),
            thumbnail_key: thumbnail_key.to_string(),
            width: facts.size.width as i64,
            height: facts.size.height as i64,
            bytes: bytes as i64,
            pixel_hash: facts.pixel_hash,
            caption: None,
            created_at_ms: 0,
            deleted_at_ms: None,
        };
        let added = datasets.add_image(&image).await;
        if !matches!(added, Ok(Added::New)) {
            blobs.delete(&key).await?;
            blobs.delete(&thumbnail_key).await?;
        }
        match added? {
            Added::New => {
                self.by_stem.insert(stem(name), Named { id: id.clone(), is_captioned: false });
                self.new.insert(id);
            }
            Added::Known(known) => self.know(name, &known),
        }
        Ok(())
    }

    /// A picture that the dataset has already.
    fn know(&mut self, name: &str, known: &dataset_image::Model) {
        let is_captioned = known.caption.is_some();
        self.by_stem.insert(stem(name), Named { id: known.id.clone(), is_captioned });
        let reason =
            format!("is the same picture as `{}`, which is there already", known.file_name);
        self.reject(name.to_owned(), reason);
    }

    /// The picture that a caption's file belongs to: of this upload, or else of an earlier one.
    async fn picture_of(&mut self, text_name: &str) -> ApiResult<Option<Named>> {
        if let Some(named) = self.by_stem.remove(&stem(text_name)) {
            return Ok(Some(named));
        }
        let stem = stem(own_name(text_name));
        let earlier = self.app.storage.datasets().image_of_stem(&self.dataset_id, &stem).await?;
        Ok(earlier.map(|image| Named { id: image.id, is_captioned: false }))
    }
}

/// Runs what waits for the disk or the processor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::invalid("files", "files hold a zip that makes the reader panic"))
}

/// A name for people: no control characters, not endless.
fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    name.chars().map(plain).take(MAX_NAME_CHARS).collect()
}

/// The last part of a name, whatever system it is from.
fn own_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// A name without its ending.
fn stem(name: &str) -> String {
    let ending = own_name(name).rfind('.').map(|dot| own_name(name).len() - dot);
    name[..name.len() - ending.unwrap_or(0)].to_owned()
}

/// The caption in a text file, if there is one.
async fn read_caption(path: &Path, bytes: u64) -> Result<Option<String>, String> {
    if bytes > MAX_TEXT_BYTES {
        return Err(format!("is longer than {} KiB, too long for a caption", MAX_TEXT_BYTES >> 10));
    }
    let read = tokio::fs::read(path).await.map_err(|e| format!("cannot be read: {e}"))?;
    let text = String::from_utf8(read).map_err(|_| "is no UTF-8 text")?;
    tidy_caption(text.trim_start_matches('\u{feff}'))
}

/// A caption in one line, as the training reads it; an empty one is none.
pub(crate) fn tidy_caption(text: &str) -> Result<Option<String>, String> {
    let caption = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars = caption.chars().count();
    if chars > MAX_CAPTION_CHARS {
        return Err(format!("caption of {chars} characters is longer than {MAX_CAPTION_CHARS}"));
    }
    if caption.contains('\0') {
        return Err("caption holds the character NUL".into());
    }
    Ok(Some(caption).filter(|caption| !caption.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_finds_its_picture_by_the_name_without_the_ending() {
        assert_eq!(stem("a/dog.one.png"), "a/dog.one");
        assert_eq!(stem("a.b/dog"), "a.b/dog");
        assert_eq!(stem("z.zip/dog.txt"), "z.zip/dog");
        assert_eq!(own_name("..\\..\\dog.png"), "dog.png");
    }

    #[test]
    fn captions_are_brought_into_one_line() {
        assert_eq!(tidy_caption(" a\r\n dog\t").unwrap().as_deref(), Some("a dog"));
        assert_eq!(tidy_caption(" \n ").unwrap(), None);
        assert!(tidy_caption(&"x".repeat(4001)).unwrap_err().contains("longer than 4000"));
    }
}
