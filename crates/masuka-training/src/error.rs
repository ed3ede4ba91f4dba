//! What can go wrong between pictures and an adapter. Messages say what, with which values, and what to do.

use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure that a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is outside its range; `rule` says what would be accepted.
    #[error("{field} {value} {rule}")]
    Invalid {
        /// The parameter as the user knows it, such as `rank`.
        field: &'static str,
        /// The refused value.
        value: String,
        /// The rule it breaks, as a verb phrase.
        rule: String,
    },
    /// A folder of pictures, a checkpoint or a cache cannot be used.
    #[error("`{}` {message}", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong and what to do about it, as a verb phrase.
        message: String,
    },
    /// The loss is no number any more; the last checkpoint is still good.
    #[error(
        "the loss of step {step} is {loss} for {samples}; the checkpoint before it is kept: \
         lower the learning rate, or look at these pictures"
    )]
    NotFinite {
        /// The step, from 1.
        step: usize,
        /// `NaN` or `inf`.
        loss: f64,
        /// The pictures of which the loss was taken.
        samples: String,
    },
    /// What was trained holds nothing that could be used.
    #[error("tensor `{tensor}` of the finished adapter {message}")]
    BadAdapter {
        /// The tensor by its name in the file.
        tensor: String,
        /// What is wrong, as a verb phrase.
        message: String,
    },
    /// The engine refused or was cancelled.
    #[error(transparent)]
    Engine(#[from] masuka_diffusion::Error),
    /// A file could not be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// A refused parameter: `Error::invalid("rank", 0, "is not within 1 and 1024")`.
    pub fn invalid(field: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::Invalid { field, value: value.to_string(), rule: rule.into() }
    }

    /// A folder or file that cannot be used, with the reason as a verb phrase.
    pub fn unusable(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Unusable { path: path.into(), message: message.into() }
    }

    /// An input or output failure on `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// Whether this is the user's or the job queue's wish to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Engine(masuka_diffusion::Error::Cancelled))
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Engine(error.into())
    }
}
