//! The files of one component as a source of tensors in our names: a diffusers folder, sharded or not, or a part of a
//! single file in another project's names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

use super::checkpoint_file::CheckpointFile;
use super::names::{Names, Take};
use super::shards;
use super::source::TensorSource;
use super::stored::{Encoding, StoredTensor};
use crate::error::{Error, Result};
use crate::ops::{PackedWeight, Packing};

/// Open files of weights, seen as one component.
#[derive(Clone)]
pub struct Checkpoint {
    path: PathBuf,
    files: Arc<Vec<CheckpointFile>>,
    tensors: BTreeMap<String, Origin>,
    prefix: String,
    names: Option<&'static Names>,
    levels: usize,
}

/// Where a tensor of ours lies.
#[derive(Clone)]
struct Origin {
    file: usize,
    name: String,
    take: Take,
}

impl Checkpoint {
    /// Opens `path`: a component's folder, or one file.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files), and when a folder has no weights or lacks a shard.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::from_files(path, &shards::of_folder(path)?);
        }
        Self::from_files(path, &[path.to_owned()])
    }

    /// Opens exactly `paths` as one source that calls itself `path` in messages.
    ///
    /// # Errors
    /// When a file cannot be read, is damaged or of another kind, or two hold the same tensor.
    pub fn from_files(path: &Path, paths: &[PathBuf]) -> Result<Self> {
        let files = paths.iter().map(|p| CheckpointFile::open(p)).collect::<Result<Vec<_>>>()?;
        let mut tensors: BTreeMap<String, Origin> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for name in file.names() {
                let origin = Origin { file: index, name: name.to_owned(), take: Take::Whole };
                if let Some(other) = tensors.insert(name.to_owned(), origin) {
                    let message = format!(
                        "holds tensor `{name}`, and so does `{}`; remove the file that does not belong here",
                        files[other.file].path().display()
                    );
                    return Err(Error::model(file.path().display(), message));
                }
            }
        }
        let (files, prefix) = (Arc::new(files), String::new());
        Ok(Self { path: path.to_owned(), files, tensors, prefix, names: None, levels: 0 })
    }

    /// The part below `prefix` for which `belongs` holds, its names translated by `names`. What no rule knows keeps its
    /// own name, so that it is found to be unknown.
    #[must_use]
    pub fn part(
        &self,
        prefix: &str,
        names: Option<&'static Names>,
        belongs: impl Fn(&str) -> bool,
    ) -> Self {
        let below: Vec<(&str, &Origin)> = self
            .tensors
            .iter()
            .filter_map(|(name, origin)| Some((name.strip_prefix(prefix)?, origin)))
            .filter(|(name, _)| belongs(name))
            .collect();
        let levels = names.map_or(0, |names| names.levels(below.iter().map(|(name, _)| *name)));
        let mut tensors = BTreeMap::new();
        for (name, origin) in below {
            let ours = names.map(|names| names.translate(name, levels)).unwrap_or_default();
            if ours.is_empty() {
                tensors.insert(name.to_owned(), origin.clone());
            }
            for translated in ours {
                let origin = Origin { take: translated.take, ..origin.clone() };
                tensors.insert(translated.name, origin);
            }
        }
        let (path, files) = (self.path.clone(), self.files.clone());
        Self { path, files, tensors, prefix: prefix.to_owned(), names, levels }
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn origin(&self, name: &str) -> Result<(&Origin, StoredTensor<'_>)> {
        let origin = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        let stored = self.files[origin.file].stored(&origin.name)?;
        Ok((origin, stored.ok_or_else(|| self.missing(name))?))
    }

    /// The kind of blocks of `name`, if it is a matrix in blocks.
    fn blocks(&self, name: &str) -> Option<Encoding> {
        let (_, stored) = self.origin(name).ok()?;
        let is_matrix = stored.shape.len() == 2;
        Some(stored.encoding).filter(|kind| is_matrix && matches!(kind, Encoding::Blocks(_)))
    }

    fn elements(&self, name: &str) -> usize {
        self.shape(name).unwrap_or_default().iter().product()
    }
}

impl TensorSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let origin = self.tensors.get(name)?;
        Some(origin.take.shape(&self.files[origin.file].shape(&origin.name)?))
    }

    fn location(&self, name: &str) -> String {
        let file = self.tensors.get(name).map(|origin| self.files[origin.file].path());
        file.unwrap_or(&self.path).display().to_string()
    }

    fn resident_bytes(&self, name: &str, dtype: DType) -> u64 {
        let elements = self.elements(name);
        let bytes = match self.blocks(name) {
            Some(blocks) => blocks.bytes_of(elements),
            None => elements * dtype.size_in_bytes(),
        };
        bytes as u64
    }

    fn transient_bytes(&self, name: &str, dtype: DType) -> u64 {
        // Blocks are expanded to f32, then rounded.
        let expanded =
            |_| self.elements(name) * (DType::F32.size_in_bytes() + dtype.size_in_bytes());
        self.blocks(name).map_or(0, expanded) as u64
    }

    fn spelling(&self, name: &str) -> String {
        if let Some(origin) = self.tensors.get(name) {
            return origin.name.clone();
        }
        let spelled = self.names.and_then(|names| names.spell(name, self.levels));
        format!("{}{}", self.prefix, spelled.map_or(name.to_owned(), |(name, _)| name))
    }

    fn misshapen(&self, name: &str, expected: &[usize]) -> Error {
        let origin = self.tensors.get(name);
        let found = origin.and_then(|origin| self.files[origin.file].shape(&origin.name));
        Error::TensorShape {
            tensor: self.spelling(name),
            file: self.location(name),
            expected: origin.map_or(expected.to_vec(), |o| o.take.stored_shape(expected)),
            found: found.unwrap_or_default(),
        }
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let (origin, stored) = self.origin(name)?;
        let ranges = origin.take.ranges(stored.shape.first().copied().unwrap_or(1));
        stored.read(&ranges, &origin.take.shape(&stored.shape), dtype, device)
    }

    fn load_blocks(&self, name: &str, device: &Device) -> Result<Option<QTensor>> {
        if self.blocks(name).is_none() {
            return Ok(None);
        }
        let (origin, stored) = self.origin(name)?;
        let ranges = origin.take.ranges(stored.shape[0]);
        let shape = origin.take.shape(&stored.shape);
        Ok(Some(stored.quantized(&ranges, &shape, device)?))
    }

    fn pack(&self, name: &str, packing: Packing) -> Result<Option<PackedWeight>> {
        let (origin, stored) = self.origin(name)?;
        let ranges = origin.take.ranges(stored.shape.first().copied().unwrap_or(1));
        stored.pack(&ranges, packing)
    }
}
