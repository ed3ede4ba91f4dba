//! A folder of pictures with captions. Files that cannot be used are listed with the reason; the rest is kept.

mod picture; // a file becomes pixels: orientation, transparency, size
mod buckets; // sizes of about equal area, by shape
mod order; // which pictures make up which batch
mod intake; // pictures that are handed in, looked at once

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub use buckets::{Bucket, Buckets};
pub use intake::{Examined, examine};
pub use order::BatchOrder;
pub use picture::Pixels;

const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// A picture and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionedPicture {
    /// The file.
    pub path: PathBuf,
    /// What people call it.
    pub name: String,
    /// The caption.
    pub caption: String,
    /// Pixels from left to right, upright.
    pub width: usize,
    /// Pixels from top to bottom, upright.
    pub height: usize,
}

/// A file that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The file.
    pub path: PathBuf,
    /// Why, as a verb phrase.
    pub reason: String,
}

/// The pictures of a folder, by file name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dataset {
    /// What can be used.
    pub pictures: Vec<CaptionedPicture>,
    /// What cannot.
    pub rejected: Vec<Rejected>,
}

impl Dataset {
    /// Reads the pictures of `folder` (not of folders below it) and, from text files of the same name, their captions.
    /// A picture without a text file is captioned with `trigger` alone.
    ///
    /// # Errors
    /// When no picture is left, or a caption lacks `trigger`.
    pub fn open(folder: &Path, trigger: Option<&str>) -> Result<Self> {
        let entries = fs::read_dir(folder).map_err(|error| no_folder(folder, error))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        paths.sort();
        let mut dataset = Self::default();
        for path in paths.into_iter().filter(|path| is_picture(path)) {
            match read(&path, trigger) {
                Ok(picture) => dataset.pictures.push(picture),
                Err(reason) => dataset.rejected.push(Rejected { path, reason }),
            }
        }
        if dataset.pictures.is_empty() {
            return Err(Error::unusable(folder, dataset.nothing_left()));
        }
        dataset.check_trigger(folder, trigger)?;
        Ok(dataset)
    }

    fn nothing_left(&self) -> String {
        match self.rejected.first() {
            None => format!("holds no picture (.{})", PICTURES.join(", .")),
            Some(Rejected { path, reason }) => {
                let name = file_name(path);
                let others = self.rejected.len() - 1;
                format!("holds no picture that can be used: `{name}` {reason} ({others} more)")
            }
        }
    }

    fn check_trigger(&self, folder: &Path, trigger: Option<&str>) -> Result<()> {
        let Some(trigger) = trigger else { return Ok(()) };
        let mut without = self.pictures.iter().filter(|p| !p.caption.contains(trigger));
        let Some(first) = without.next() else { return Ok(()) };
        let message = format!(
            "holds {} captions without the trigger word `{trigger}`, the first is `{}` of `{}`; \
             write it into them, or choose a word that they share",
            1 + without.count(),
            first.caption,
            file_name(&first.path)
        );
        Err(Error::unusable(folder, message))
    }
}

/// What to do about a folder that cannot be listed.
fn no_folder(folder: &Path, error: std::io::Error) -> Error {
    let wrong = match error.kind() {
        ErrorKind::NotFound => "does not exist",
        ErrorKind::NotADirectory => "is no folder",
        _ => return Error::io(folder, error),
    };
    let pictures = PICTURES.join(", .");
    let message = format!(
        "{wrong}; name a folder of pictures (.{pictures}), each with a caption in a .txt of the same name"
    );
    Error::unusable(folder, message)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    path.is_file() && extension.is_some_and(|e| PICTURES.contains(&e.as_str()))
}

fn read(path: &Path, trigger: Option<&str>) -> Result<CaptionedPicture, String> {
    // The whole picture is decoded, so that a damaged one is found before anything is trained.
    let pixels = Pixels::open(path)?;
    let (width, height) = (pixels.width(), pixels.height());
    let text = path.with_extension("txt");
    let caption = match fs::read_to_string(&text) {
        Ok(caption) => caption.split_whitespace().collect::<Vec<_>>().join(" "),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            trigger.map(str::to_owned).ok_or("has no caption (a .txt of its name)")?
        }
        Err(e) => return Err(format!("has a caption that cannot be read: {e}")),
    };
    let name = file_name(path);
    Ok(CaptionedPicture { path: path.to_owned(), name, caption, width, height })
}

/// The last part of a path, for people.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
