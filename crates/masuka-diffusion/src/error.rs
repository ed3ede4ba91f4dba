//! What can go wrong between a prompt and a picture. Messages say what, with which values, and what to do.

use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure that a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request field is outside its range; `rule` says what would be accepted.
    #[error("{field} {value} {rule}")]
    Invalid {
        /// The field as the user knows it, such as `width`.
        field: &'static str,
        /// The refused value.
        value: String,
        /// The rule it breaks, as a verb phrase: `is not a multiple of 16`.
        rule: String,
    },
    /// The checkpoint lacks a tensor that the architecture needs.
    #[error("tensor `{tensor}` is missing from `{file}`")]
    MissingTensor {
        /// The tensor's name as the file would spell it.
        tensor: String,
        /// The file or folder that was searched.
        file: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "tensor `{tensor}` in `{file}` has shape {found:?}, expected {expected:?}; \
         does `config.json` belong to this checkpoint?"
    )]
    TensorShape {
        /// The tensor's name in the file.
        tensor: String,
        /// The file that holds it.
        file: String,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// The checkpoint holds tensors that the architecture does not know.
    #[error(
        "{count} tensors in `{file}` belong to no part of the model, the first is `{first}`; \
         is this checkpoint of another architecture?"
    )]
    UnknownTensors {
        /// How many there are.
        count: usize,
        /// The first of them, in the file's own spelling.
        first: String,
        /// The file that holds it.
        file: String,
    },
    /// A model file or configuration is damaged or of a kind that is not supported.
    #[error("`{file}`: {message}")]
    Model {
        /// The file at fault.
        file: String,
        /// What is wrong and what to do about it.
        message: String,
    },
    /// A picture file is damaged or of a kind that is not supported.
    #[error("`{file}` {message}")]
    Picture {
        /// The picture at fault.
        file: String,
        /// What is wrong with it, as a verb phrase: `is not a PNG file`.
        message: String,
    },
    /// The asked device is not there or cannot be used; the message says what to do.
    #[error("{0}")]
    Device(String),
    /// The model needs more memory than the device has; the message names a mode that would fit.
    #[error("{0}")]
    OutOfMemory(String),
    /// The user or the job queue asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A file could not be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The tensor library refused an operation.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// A refused request field: `Error::invalid("width", 1000, "is not a multiple of 16")`.
    pub fn invalid(field: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::Invalid { field, value: value.to_string(), rule: rule.into() }
    }

    /// A model file that cannot be used, with the reason.
    pub fn model(file: impl ToString, message: impl Into<String>) -> Self {
        Self::Model { file: file.to_string(), message: message.into() }
    }

    /// A picture file that cannot be used, with the reason as a verb phrase.
    pub fn picture(file: impl ToString, message: impl Into<String>) -> Self {
        Self::Picture { file: file.to_string(), message: message.into() }
    }

    /// An input or output failure on `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}
