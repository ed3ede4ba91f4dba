//! One memory-mapped safetensors file. Tensors are copied out one at a time and their pages given back.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::TensorInfo;

use crate::error::{Error, Result};

/// A safetensors file whose header has been checked.
pub struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: HashMap<String, String>,
    data_start: usize,
}

impl SafetensorsFile {
    /// Maps `path` and checks its header: lengths, offsets and dtypes.
    ///
    /// # Errors
    /// When the file cannot be opened or its header does not describe its bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: the map is read-only; a file that another process truncates meanwhile is outside
        // what any reader of model files can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let (header_bytes, header) = SafeTensors::read_metadata(&map).map_err(|e| {
            Error::model(
                path.display(),
                format!("is no valid safetensors file ({e}); copy it again"),
            )
        })?;
        let tensors =
            header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_owned(), map, tensors, metadata, data_start: header_bytes + 8 })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An entry of the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of `name`, if it is there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|info| info.shape.clone())
    }

    /// The dtype of `name`, if it is there and of a dtype that tensors can have.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        DType::try_from(self.tensors.get(name)?.dtype).ok()
    }

    /// Copies `name` out as `dtype` onto `device`.
    ///
    /// # Errors
    /// When it is not there or its dtype is not supported.
    pub fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(info) = self.tensors.get(name) else {
            let file = self.path.display().to_string();
            return Err(Error::MissingTensor { tensor: name.to_owned(), file });
        };
        let tensor = self.tensor(name, info)?;
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }

    fn tensor(&self, name: &str, info: &TensorInfo) -> Result<Tensor> {
        let (start, end) = info.data_offsets;
        let bytes = &self.map[self.data_start + start..self.data_start + end];
        let dtype = DType::try_from(info.dtype).map_err(|_| {
            let message =
                format!("tensor `{name}` has dtype {:?}, which is not supported", info.dtype);
            Error::model(self.path.display(), message)
        })?;
        Ok(Tensor::from_raw_buffer(bytes, dtype, &info.shape, &Device::Cpu)?)
    }
}
