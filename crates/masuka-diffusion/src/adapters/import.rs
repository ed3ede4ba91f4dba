//! From the tensors of a file to updates: which convention, which tensors form a module, which layers it stands for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};

use super::lora::Updates;
use super::lora_formats::{Configurations, Convention, Layer, LoraFormat, Place, TensorRole};
use super::report::other_family;
use super::update::{LoraUpdate, Magnitude, Scaling};
use super::{Delta, LoraAdapter, Matrix, Target};
use crate::error::{Error, Result};
use crate::weights::names::Take;
use crate::weights::safetensors_file::SafetensorsFile;

/// No trainer goes near it; a rank above it is a damaged or hostile file.
const MAX_RANK: usize = 4096;

/// The tensors of one module of the file.
struct Module {
    target: Target,
    layers: Vec<Layer>,
    parts: BTreeMap<TensorRole, Part>,
}

struct Part {
    name: String,
    tensor: Tensor,
    zero: bool,
}

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
    let part = Part { name: name.to_owned(), tensor, zero: largest == 0.0 };
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

/// A module on its way to updates.
struct Reader<'a> {
    path: &'a Path,
    name: &'a str,
    module: Module,
    configurations: &'a Configurations,
}

impl Reader<'_> {
    /// Whether a factor, alpha or a difference is zero, so that nothing is left of the update.
    fn is_zero(&self) -> bool {
        let mut parts = self.module.parts.iter();
        let kills = |role: &TensorRole| !matches!(role, TensorRole::UpBias | TensorRole::DiffBias);
        let bias_alone = |role: &TensorRole| *role == TensorRole::DiffBias;
        let only_bias = self.module.parts.keys().all(bias_alone);
        parts.any(|(role, part)| part.zero && (kills(role) || only_bias))
    }

    /// Adds the updates of all layers that the module stands for.
    fn read_into(self, updates: &mut Updates) -> Result<()> {
        let whole = self.update()?;
        let rows = match (&whole.delta, &whole.bias) {
            (Some(delta), _) => delta.shape()?.0,
            (None, Some(bias)) => bias.elem_count(),
            (None, None) => return Ok(()),
        };
        let mut tensors = whole.tensors;
        for (layer, take) in &self.module.layers {
            let update = match *take {
                Take::Whole | Take::Pointwise => Some(whole.clone()),
                Take::SwappedHalves => Some(whole.select(&take.ranges(rows))?),
                Take::Rows { of, .. } => {
                    if !rows.is_multiple_of(of) {
                        return Err(self.refuse(&format!("has {rows} rows, no multiple of {of}")));
                    }
                    whole.select(&take.ranges(rows))?.trimmed()?
                }
            };
            let Some(update) = update else { continue };
            let update = LoraUpdate { tensors: std::mem::take(&mut tensors), ..update };
            if updates.insert((self.module.target, layer.clone()), update).is_some() {
                return Err(self.refuse(&format!("is a second update of `{layer}`")));
            }
        }
        Ok(())
    }

    fn update(&self) -> Result<LoraUpdate> {
        let delta = self.delta()?;
        let shape = delta.as_ref().map(Delta::shape).transpose()?;
        let scaling = self.scaling(delta.as_ref())?;
        let scale = scaling.map_or(1.0, |s| s.alpha / s.rank as f64);
        let bias = match (self.part(TensorRole::UpBias), self.part(TensorRole::DiffBias)) {
            (Some(_), Some(_)) => return Err(self.refuse("has two updates of its bias")),
            (Some(bias), None) => Some((bias.to_dtype(DType::F32)?.flatten_all()? * scale)?),
            (None, bias) => bias.map(Tensor::flatten_all).transpose()?,
        };
        if let (Some(bias), Some((out, _))) = (&bias, shape)
            && bias.elem_count() != out
        {
            let message = format!("changes {out} channels and {} biases", bias.elem_count());
            return Err(self.refuse(&message));
        }
        let magnitude = self.magnitude(shape)?;
        let replaces = self.part(TensorRole::NormScale).is_some();
        let (module, tensors) = (self.name.to_owned(), self.module.parts.len());
        Ok(LoraUpdate { delta, replaces, bias, scaling, magnitude, module, tensors })
    }

    fn delta(&self) -> Result<Option<Delta>> {
        let kinds = [
            self.low_rank()?.map(Delta::Plain),
            self.hadamard()?,
            self.kronecker()?,
            self.whole(TensorRole::Diff)?.map(Delta::Plain),
            self.whole(TensorRole::NormScale)?.map(Delta::Plain),
        ];
        let mut found = kinds.into_iter().flatten();
        match (found.next(), found.next()) {
            (delta, None) => Ok(delta),
            _ => Err(self.refuse("is adapted in two ways at once")),
        }
    }

    fn low_rank(&self) -> Result<Option<Matrix>> {
        self.product([TensorRole::Up, TensorRole::Down], ["up (lora_B)", "down (lora_A)"])
    }

    fn hadamard(&self) -> Result<Option<Delta>> {
        let product = |up, down, names| {
            self.product([TensorRole::Hadamard(up), TensorRole::Hadamard(down)], names)
        };
        let first = product(0, 1, ["hada_w1_a", "hada_w1_b"])?;
        match (first, product(2, 3, ["hada_w2_a", "hada_w2_b"])?) {
            (None, None) => Ok(None),
            (Some(first), Some(second)) => {
                let shapes =
                    (first.rows()?, first.columns()?) == (second.rows()?, second.columns()?);
                shapes
                    .then_some(Some(Delta::Hadamard(first, second)))
                    .ok_or_else(|| self.refuse("has LoHa products of two shapes"))
            }
            _ => Err(self.refuse("has one LoHa product, two belong together")),
        }
    }

    fn kronecker(&self) -> Result<Option<Delta>> {
        let factor = |whole: u8, names: [&str; 2]| -> Result<Option<Matrix>> {
            match self.matrix(TensorRole::Kronecker(whole))? {
                Some(factor) => Ok(Some(Matrix::Whole(factor.clone()))),
                None => {
                    let [up, down] = [whole + 1, whole + 2].map(TensorRole::Kronecker);
                    self.product([up, down], names)
                }
            }
        };
        let first = factor(0, ["lokr_w1_a", "lokr_w1_b"])?;
        match (first, factor(3, ["lokr_w2_a", "lokr_w2_b"])?) {
            (None, None) => Ok(None),
            (Some(first), Some(second)) => {
                let rows = first.rows()? * second.rows()?;
                Ok(Some(Delta::Kronecker(first, second, std::iter::once(0..rows).collect())))
            }
            _ => Err(self.refuse("has one LoKr factor, two belong together")),
        }
    }

    /// A norm's vector counts as a matrix of one column.
    fn whole(&self, role: TensorRole) -> Result<Option<Matrix>> {
        match self.part(role) {
            Some(vector) if vector.rank() == 1 => {
                Ok(Some(Matrix::Whole(vector.reshape((vector.elem_count(), 1))?)))
            }
            _ => Ok(self.matrix(role)?.map(|whole| Matrix::Whole(whole.clone()))),
        }
    }

    /// up · down, if any of them is there.
    fn product(&self, roles: [TensorRole; 2], names: [&str; 2]) -> Result<Option<Matrix>> {
        let [up, down] = [self.matrix(roles[0])?, self.matrix(roles[1])?];
        let missing = |name: &str| {
            let message = format!("the {name} projection of `{}` is missing", self.name);
            Err(Error::model(self.path.display(), message))
        };
        let (up, down) = match (up, down) {
            (None, None) => return Ok(None),
            (None, Some(_)) => return missing(names[0]),
            (Some(_), None) => return missing(names[1]),
            (Some(up), Some(down)) => (up, down),
        };
        let (rank, other) = (down.dim(0)?, up.dim(1)?);
        if rank != other || rank == 0 {
            let (up, down) = (up.dims(), down.dims());
            let message =
                format!("has {} {up:?} and {} {down:?}, no pair of one rank", names[0], names[1]);
            return Err(self.refuse(&message));
        }
        Ok(Some(Matrix::Product { up: up.clone(), down: down.clone() }))
    }

    /// Alpha of the file, else of its header, else as much as the rank, which means a scale of 1.
    fn scaling(&self, delta: Option<&Delta>) -> Result<Option<Scaling>> {
        let rank = match delta {
            Some(Delta::Plain(matrix) | Delta::Hadamard(matrix, _)) => matrix.rank(),
            Some(Delta::Kronecker(first, second, _)) => second.rank().or(first.rank()),
            None => None,
        };
        let Some(rank) = rank else { return Ok(None) };
        let layer = self.module.layers.first().map_or("", |(layer, _)| layer);
        let told = self.configurations.layer(self.module.target, layer);
        let alpha = match self.part(TensorRole::Alpha) {
            Some(alpha) => self.number(alpha)?,
            None => told.alpha.unwrap_or(rank as f64),
        };
        let stabilised = if told.rank_stabilised { (rank as f64).sqrt() } else { 1.0 };
        Ok(Some(Scaling { alpha: alpha * stabilised, rank }))
    }

    fn magnitude(&self, shape: Option<(usize, usize)>) -> Result<Option<Magnitude>> {
        let Some(magnitude) = self.part(TensorRole::Magnitude) else { return Ok(None) };
        let Some((out, columns)) = shape else {
            return Err(self.refuse("has DoRA magnitudes and no update"));
        };
        let flat = magnitude.flatten_all()?;
        match *magnitude.dims() {
            [1, n] if n == columns && out != 1 => {
                if self.module.layers.len() > 1 {
                    let message =
                        "has DoRA magnitudes by input over joined layers, which is not supported";
                    return Err(self.refuse(message));
                }
                Ok(Some(Magnitude::Columns(flat)))
            }
            _ if flat.elem_count() == out => Ok(Some(Magnitude::Rows(flat))),
            _ => {
                let dims = magnitude.dims();
                let message =
                    format!("has DoRA magnitudes {dims:?} for a weight of {out} × {columns}");
                Err(self.refuse(&message))
            }
        }
    }

    fn part(&self, role: TensorRole) -> Option<&Tensor> {
        self.module.parts.get(&role).map(|part| &part.tensor)
    }

    /// The part as a matrix.
    fn matrix(&self, role: TensorRole) -> Result<Option<&Tensor>> {
        match self.module.parts.get(&role) {
            Some(part) if part.tensor.rank() != 2 => {
                let (name, dims) = (&part.name, part.tensor.dims());
                let message = format!("`{name}` must be a matrix, its shape is {dims:?}");
                Err(Error::model(self.path.display(), message))
            }
            part => Ok(part.map(|part| &part.tensor)),
        }
    }

    fn number(&self, tensor: &Tensor) -> Result<f64> {
        match tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.as_slice() {
            [value] => Ok(f64::from(*value)),
            values => Err(self.refuse(&format!("has an alpha of {} numbers", values.len()))),
        }
    }

    /// What is wrong with the module.
    fn refuse(&self, message: &str) -> Error {
        Error::model(self.path.display(), format!("`{}` {message}", self.name))
    }
}
