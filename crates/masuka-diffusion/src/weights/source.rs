//! Where tensors come from, seen from a model file: by its own names, whatever the checkpoint calls them.

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::ops::{PackedWeight, Packing};

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

    /// Bytes that `name` takes beside that for as long as it is used.
    fn transient_bytes(&self, _name: &str, _dtype: DType) -> u64 {
        0
    }

    /// How the file spells `name`, for messages.
    fn spelling(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The error that says that `name` is not there.
    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor { tensor: self.spelling(name), file: self.location(name) }
    }

    /// The error that says that `name` should have the shape `expected`.
    fn misshapen(&self, name: &str, expected: &[usize]) -> Error {
        Error::TensorShape {
            tensor: self.spelling(name),
            file: self.location(name),
            expected: expected.to_vec(),
            found: self.shape(name).unwrap_or_default(),
        }
    }

    /// Reads `name` as `dtype` onto `device`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] when it is not there, or a failure to convert or copy it.
    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor>;

    /// Reads a matrix in blocks, if it is stored so.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn load_blocks(&self, _name: &str, _device: &Device) -> Result<Option<QTensor>> {
        Ok(None)
    }

    /// Packs a matrix for the processor without a copy of it beside the packed one, where that is possible.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    fn pack(&self, _name: &str, _packing: Packing) -> Result<Option<PackedWeight>> {
        Ok(None)
    }
}
