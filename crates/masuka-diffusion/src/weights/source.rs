//! Where tensors come from. A source speaks the names of the model file it feeds; translating other
//! conventions is done by sources that wrap sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::safetensors_file::SafetensorsFile;
use super::store::LinearWeight;
use crate::error::{Error, Result};

/// Named tensors of one component, on disk.
pub trait TensorSource: Send + Sync {
    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// The shape of `name`, if it is there.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// The file that holds `name`, or the whole source's path, for messages.
    fn location(&self, name: &str) -> String;

    /// Bytes that `name` takes in memory when it is wanted as `dtype`.
    fn resident_bytes(&self, name: &str, dtype: DType) -> u64 {
        let elements: usize = self.shape(name).unwrap_or_default().iter().product();
        (elements * dtype.size_in_bytes()) as u64
    }

    /// Reads `name` as `dtype` onto `device`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] when it is not there, or a failure to convert or copy it.
    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor>;

    /// Reads the weight of a linear layer, quantised if it is stored so.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn load_linear(&self, name: &str, dtype: DType, device: &Device) -> Result<LinearWeight> {
        Ok(LinearWeight::Dense(self.load(name, dtype, device)?))
    }
}

/// The safetensors files of one diffusers component folder, sharded or not.
pub struct SafetensorsFolder {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    by_name: BTreeMap<String, usize>,
}

impl SafetensorsFolder {
    /// Opens every `*.safetensors` of `folder`; of a sharded component only the files its index names.
    ///
    /// # Errors
    /// When the folder has no safetensors file, or one of them cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .map_err(|e| Error::io(folder, e))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        paths.sort();
        if paths.is_empty() {
            return Err(Error::model(folder.display(), "holds no .safetensors file"));
        }
        Self::from_files(folder, &paths)
    }

    /// Opens exactly `paths` as one source that calls itself `path` in messages.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn from_files(path: &Path, paths: &[PathBuf]) -> Result<Self> {
        let files = paths.iter().map(|p| SafetensorsFile::open(p)).collect::<Result<Vec<_>>>()?;
        let by_name = files
            .iter()
            .enumerate()
            .flat_map(|(index, file)| file.names().map(move |name| (name.to_owned(), index)))
            .collect();
        Ok(Self { path: path.to_owned(), files, by_name })
    }

    fn file(&self, name: &str) -> Option<&SafetensorsFile> {
        self.by_name.get(name).map(|&index| &self.files[index])
    }
}

impl TensorSource for SafetensorsFolder {
    fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file(name)?.shape(name)
    }

    fn location(&self, name: &str) -> String {
        self.file(name).map_or(self.path.as_path(), SafetensorsFile::path).display().to_string()
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let missing =
            || Error::MissingTensor { tensor: name.to_owned(), file: self.location(name) };
        self.file(name).ok_or_else(missing)?.load(name, dtype, device)
    }
}
