//! From the tensors of a file to updates: which convention it follows, and which tensors form a module.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};

use super::LoraAdapter;
use super::lora::Updates;
use super::lora_formats::{Configurations, Convention, LoraFormat, Place, TensorRole};
use super::module::{Module, Part, Reader};
use super::report::other_family;
use crate::error::{Error, Result};
use crate::weights::safetensors_file::SafetensorsFile;

/// No trainer goes near it; a rank above it is a damaged or hostile file.
const MAX_RANK: usize = 4096;

/// Whether any convention knows names in the file at `path`.
pub(super) fn recognises(path: &Path) -> Result<bool> {
    let file = SafetensorsFile::open(path)?;
    Ok(Convention::of(&file.names().collect::<Vec<_>>()).is_some())
}

/// Reads the adapter at `path`.
pub(super) fn read(path: &Path) -> Result<LoraAdapter> {
    let file = SafetensorsFile::open(path)?;
    let names: Vec<&str> = file.names().collect();
    let Some(convention) = Convention::of(&names) else {
        return Err(Error::model(path.display(), not_an_adapter(&file)));
    };
    let configurations = match convention.format() {
        LoraFormat::Peft => Configurations::beside(path)?,
        _ => Configurations::of_header(&file)?,
    };
    let (mut modules, mut ignored, mut unknown) = (BTreeMap::new(), Vec::new(), Vec::new());
    for name in file.names() {
        match convention.place(name) {
            None => unknown.push(name.to_owned()),
            Some(place) if place.layers.is_empty() => ignored.push(name.to_owned()),
            Some(place) => add(&mut modules, &file, name, place)?,
        }
    }
    let (mut updates, mut zero) = (Updates::new(), Vec::new());
    for (name, module) in modules {
        let module = Reader { path, name: &name, module, configurations: &configurations };
        if module.is_zero() {
            // The first is what messages name.
            let mut parts: Vec<Part> = module.module.parts.into_values().collect();
            parts.sort_by_key(|part| !part.zero);
            zero.extend(parts.into_iter().map(|part| part.name));
        } else {
            module.read_into(&mut updates)?;
        }
    }
    if updates.is_empty() && !zero.is_empty() {
        let message = "has no effect: every update in it is zero; was its training broken off?";
        return Err(Error::model(path.display(), message));
    }
    let (path, format) = (path.to_owned(), convention.format());
    Ok(LoraAdapter { path, format, updates, ignored, zero, unknown, branches: Mutex::default() })
}

fn not_an_adapter(file: &SafetensorsFile) -> String {
    if let Some(family) = other_family(file.names()) {
        return format!("is a LoRA for {family}, not for FLUX.1");
    }
    let first = file.names().next().unwrap_or("none");
    format!("holds no tensor of a FLUX.1 LoRA in any known convention; its first is `{first}`")
}

/// Reads tensor `name` and adds it to its module.
fn add(
    modules: &mut BTreeMap<String, Module>,
    file: &SafetensorsFile,
    name: &str,
    place: Place,
) -> Result<()> {
    let refuse = |message: String| Err(Error::model(file.path().display(), message));
    let shape = file.shape(name).unwrap_or_default();
    if let Some(rank) = rank_of(place.role, &shape).filter(|rank| *rank > MAX_RANK) {
        return refuse(format!("`{name}` has rank {rank}, more than {MAX_RANK} is not supported"));
    }
    let dtype = match file.dtype(name) {
        Some(dtype @ (DType::F16 | DType::BF16)) => dtype,
        _ => DType::F32,
    };
    let tensor = without_points(file.load(name, dtype, &Device::Cpu)?)?;
    let largest = largest(&tensor)?;
    if !largest.is_finite() {
        return refuse(format!(
            "`{name}` holds numbers that are not finite; the training that made it has diverged"
        ));
    }
    let new =
        || Module { target: place.target, layers: place.layers.clone(), parts: BTreeMap::new() };
    let module = modules.entry(place.module.clone()).or_insert_with(new);
    let part = Part { name: name.to_owned(), shape, tensor, zero: largest == 0.0 };
    match module.parts.insert(place.role, part) {
        None => Ok(()),
        Some(other) => refuse(format!("`{name}` and `{}` are the same part", other.name)),
    }
}

/// The rank that a factor's shape says.
fn rank_of(role: TensorRole, shape: &[usize]) -> Option<usize> {
    match role {
        TensorRole::Down | TensorRole::Hadamard(1 | 3) | TensorRole::Kronecker(2 | 5) => {
            shape.first().copied()
        }
        TensorRole::Up | TensorRole::Hadamard(0 | 2) | TensorRole::Kronecker(1 | 4) => {
            shape.get(1).copied()
        }
        _ => None,
    }
}

/// Linear layers saved as 1×1 convolutions.
fn without_points(tensor: Tensor) -> Result<Tensor> {
    match *tensor.dims() {
        [rows, columns, 1, 1] => Ok(tensor.reshape((rows, columns))?),
        _ => Ok(tensor),
    }
}

/// The largest magnitude; not finite if any number is not.
fn largest(tensor: &Tensor) -> Result<f32> {
    let numbers = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let worse = |largest: f32, x: &f32| if x.is_finite() { largest.max(x.abs()) } else { f32::NAN };
    Ok(numbers
        .iter()
        .fold(0.0, |largest, x| if largest.is_nan() { largest } else { worse(largest, x) }))
}
