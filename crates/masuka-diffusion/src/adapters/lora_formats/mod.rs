//! How the conventions of the field spell the tensors of a LoRA. Each file answers for one convention.

mod diffusers; // diffusers and PEFT: `transformer.*.lora_A.weight`
mod metadata; // alpha values that stand in the file's header

use candle_core::{DType, Device, Tensor};

use super::Target;
use crate::error::{Error, Result};
use crate::weights::safetensors_file::SafetensorsFile;

pub use diffusers::canonical_module;
pub use metadata::MetadataAlphas;

/// What a tensor is to its module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorRole {
    /// A, (rank, in).
    Down,
    /// B, (out, rank).
    Up,
    /// Alpha, a scalar.
    Alpha,
    /// Known to be of no effect at inference.
    Ignored,
}

/// Where a tensor belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The part of the model.
    pub target: Target,
    /// The module by diffusers' name.
    pub module: String,
    /// What the tensor is to it.
    pub role: TensorRole,
}

/// Where the tensor `name` belongs, by the first convention that knows it.
pub fn place(name: &str) -> Option<Place> {
    diffusers::place(name)
}

/// Reads a tensor in f32 on the CPU.
pub(super) fn read_f32(file: &SafetensorsFile, name: &str) -> Result<Tensor> {
    file.load(name, DType::F32, &Device::Cpu)
}

/// The value of an alpha tensor of one element.
pub(super) fn scalar(file: &SafetensorsFile, name: &str, tensor: &Tensor) -> Result<f64> {
    match tensor.flatten_all()?.to_vec1::<f32>()?.as_slice() {
        [value] => Ok(f64::from(*value)),
        values => {
            let message = format!("`{name}` must be one number, it has {}", values.len());
            Err(Error::model(file.path().display(), message))
        }
    }
}
