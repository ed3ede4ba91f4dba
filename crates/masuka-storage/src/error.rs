//! What can go wrong between a row, a file and whoever asks for them.

use std::path::PathBuf;

use crate::secret;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the storage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or is gone.
    #[error("database: {0}")]
    Database(#[from] sea_orm::DbErr),
    /// The blob store refused or is gone.
    #[error("storage: {0}")]
    Blob(#[from] object_store::Error),
    /// Nothing is known under this id.
    #[error("{what} `{id}` does not exist")]
    NotFound {
        /// What was looked for, such as `job`.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The row is in a state that does not allow this.
    #[error("job `{id}` is {status}, {rule}")]
    WrongState {
        /// The job.
        id: String,
        /// The state it is in.
        status: String,
        /// What would be allowed: `only failed or cancelled jobs can be retried`.
        rule: &'static str,
    },
    /// Too many jobs wait.
    #[error("{limit} jobs are waiting; try again later")]
    QueueFull {
        /// The configured depth.
        limit: u64,
    },
    /// Jobs that wait or run need this model.
    #[error("model `{0}` is used by jobs that wait or run; cancel them or wait before deleting it")]
    ModelInUse(String),
    /// Another base model is drawn with files of this one.
    #[error("base model `{id}` has files that `{by}` needs; remove `{by}` first")]
    BaseModelNeeded {
        /// The one that was to go.
        id: String,
        /// The one that needs it.
        by: String,
    },
    /// The files of a base model are not ours to erase.
    #[error(
        "base model `{id}` lies at `{source_path}`, where it was not downloaded to by this program; take it off the \
         list without its files, and erase them there"
    )]
    FilesElsewhere {
        /// The base model.
        id: String,
        /// Where it is.
        source_path: String,
    },
    /// A download is on its way into this folder.
    #[error("`{}` is being downloaded to; wait for that, or stop it", .0.display())]
    BeingDownloaded(PathBuf),
    /// Trainings that wait, pause or run need this dataset.
    #[error(
        "dataset `{0}` is used by trainings that are not over; cancel them or wait before deleting from it"
    )]
    DatasetInUse(String),
    /// A blob key that is none.
    #[error("`{0}` is not a storage key")]
    BlobKey(String),
    /// A stored value cannot be read any more.
    #[error("stored {what} cannot be read: {reason}")]
    Corrupt {
        /// What it should have been.
        what: &'static str,
        /// The reason.
        reason: String,
    },
    /// A file elsewhere that cannot be had.
    #[error("`{url}` cannot be downloaded: {reason}")]
    Download {
        /// Where it is; see [`download`](Self::download).
        url: String,
        /// What its server answers, if it answers.
        status: Option<u16>,
        /// The reason, with the remedy where there is one.
        reason: String,
    },
    /// A file with another content than was recorded.
    #[error("file `{key}` is damaged: its sha256 is {found}, not {expected}")]
    Damaged {
        /// Where it is.
        key: String,
        /// What was recorded.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Whoever watches asked to stop.
    #[error("stopped")]
    Stopped,
    /// The configuration contradicts itself or lacks something.
    #[error("{0}")]
    Config(String),
    /// A file of the data folder could not be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// An input or output failure on `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A stored value of kind `what` that cannot be read any more.
    pub fn corrupt(what: &'static str, reason: impl ToString) -> Self {
        Self::Corrupt { what, reason: reason.to_string() }
    }

    /// A file at `url` that cannot be had. Of the address only what opens nothing is kept: neither user nor query.
    pub fn download(url: impl ToString, reason: impl ToString) -> Self {
        let url = secret::address(&url.to_string());
        Self::Download { url, status: None, reason: reason.to_string() }
    }

    /// An id that is not known.
    pub fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }
}
