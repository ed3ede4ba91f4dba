//! One file of weights, of either format. The content says which, not the name.

use std::path::Path;

use super::gguf_file::{self, GgufFile};
use super::mapped_file::MappedFile;
use super::safetensors_file::SafetensorsFile;
use super::stored::StoredTensor;
use crate::error::Result;

/// An open file of weights.
pub enum CheckpointFile {
    /// Hugging Face's format.
    Safetensors(SafetensorsFile),
    /// llama.cpp's format.
    Gguf(GgufFile),
}

impl CheckpointFile {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged or of another kind.
    pub fn open(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path)?;
        if file.bytes().starts_with(gguf_file::MAGIC) {
            return GgufFile::read(file).map(Self::Gguf);
        }
        SafetensorsFile::read(file).map(Self::Safetensors)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// The names of its tensors, without those that only say how others are to be read.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Safetensors(file) => file.names().filter(|name| !file.is_scale(name)).collect(),
            Self::Gguf(file) => file.names().collect(),
        }
    }

    /// The shape of `name`, if it is there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match self {
            Self::Safetensors(file) => file.shape(name),
            Self::Gguf(file) => file.shape(name),
        }
    }

    /// The tensor `name` as it lies in the file, if it is there.
    ///
    /// # Errors
    /// When its dtype is not supported.
    pub fn stored(&self, name: &str) -> Result<Option<StoredTensor<'_>>> {
        match self {
            Self::Safetensors(file) => file.stored(name),
            Self::Gguf(file) => file.stored(name),
        }
    }
}
