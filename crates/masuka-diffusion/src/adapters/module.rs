//! From the tensors of one module of a file to the updates of the layers that it stands for.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use super::lora::Updates;
use super::lora_formats::{Configurations, Layer, TensorRole};
use super::origin::{Origin, Side};
use super::update::{LoraUpdate, Magnitude, Scaling};
use super::{Delta, Matrix, Target};
use crate::error::{Error, Result};
use crate::weights::names::Take;

/// The tensors of one module of the file.
pub(super) struct Module {
    pub target: Target,
    pub layers: Vec<Layer>,
    pub parts: BTreeMap<TensorRole, Part>,
}

/// A tensor of a module.
pub(super) struct Part {
    pub name: String,
    /// In the file.
    pub shape: Vec<usize>,
    /// Linear layers saved as 1×1 convolutions are matrices here.
    pub tensor: Tensor,
    /// Whether all its numbers are zero.
    pub zero: bool,
}
impl Part {
    /// Its axis that the weight has `times` times as long.
    fn side(&self, axis: usize, times: usize) -> Side {
        let axis = axis.min(self.shape.len().saturating_sub(1));
        Side { tensor: self.name.clone(), shape: self.shape.clone(), axis, times }
    }
}

/// A module on its way to updates.
pub(super) struct Reader<'a> {
    pub path: &'a Path,
    pub name: &'a str,
    pub module: Module,
    pub configurations: &'a Configurations,
}

impl Reader<'_> {
    /// Whether a factor, alpha or a difference is zero, so that nothing is left of the update.
    pub fn is_zero(&self) -> bool {
        let mut parts = self.module.parts.iter();
        let kills = |role: &TensorRole| !matches!(role, TensorRole::UpBias | TensorRole::DiffBias);
        let bias_alone = |role: &TensorRole| *role == TensorRole::DiffBias;
        let only_bias = self.module.parts.keys().all(bias_alone);
        parts.any(|(role, part)| part.zero && (kills(role) || only_bias))
    }

    /// Adds the updates of all layers that the module stands for.
    pub fn read_into(self, updates: &mut Updates) -> Result<()> {
        let Some(whole) = self.update()? else { return Ok(()) };
        let rows = match (&whole.delta, &whole.bias) {
            (Some(delta), _) => delta.shape()?.0,
            (None, bias) => bias.as_ref().map_or(0, Tensor::elem_count),
        };
        let mut tensors = whole.tensors;
        for (layer, take) in &self.module.layers {
            let update = match *take {
                Take::Whole | Take::Pointwise => Some(whole.clone()),
                Take::SwappedHalves => Some(whole.select(&take.ranges(rows))?),
                Take::Rows { of, .. } => {
                    if !rows.is_multiple_of(of) {
                        let name = &whole.origin.rows.tensor;
                        let message = format!("`{name}` has {rows} rows, no multiple of {of}");
                        return Err(Error::model(self.path.display(), message));
                    }
                    whole.select(&take.ranges(rows))?.trimmed()?
                }
            };
            let Some(update) = update else { continue };
            let origin = Origin { take: *take, ..update.origin };
            let update = LoraUpdate { tensors: std::mem::take(&mut tensors), origin, ..update };
            if updates.insert((self.module.target, layer.clone()), update).is_some() {
                return Err(self.refuse(&format!("is a second update of `{layer}`")));
            }
        }
        Ok(())
    }

    /// The update of all rows; none if alpha is all that the module has.
    fn update(&self) -> Result<Option<LoraUpdate>> {
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
        let Some(origin) = self.origin(delta.as_ref())? else { return Ok(None) };
        Ok(Some(LoraUpdate { delta, replaces, bias, scaling, magnitude, module, origin, tensors }))
    }

    /// Which parts decide the update's shape.
    fn origin(&self, delta: Option<&Delta>) -> Result<Option<Origin>> {
        use TensorRole::{Diff, DiffBias, Down, Hadamard, Kronecker, NormScale, Up, UpBias};
        let first =
            |roles: &[TensorRole]| roles.iter().find_map(|role| self.module.parts.get(role));
        let rows = first(&[Up, Hadamard(0), Kronecker(0), Kronecker(1), Diff, NormScale]);
        let columns = first(&[Down, Hadamard(1), Kronecker(0), Kronecker(2), Diff, NormScale]);
        let (rows, columns) = match first(&[UpBias, DiffBias]) {
            Some(bias) => (rows.unwrap_or(bias), columns.unwrap_or(bias)),
            None => match rows.zip(columns) {
                Some(both) => both,
                None => return Ok(None),
            },
        };
        let times = match delta {
            Some(Delta::Kronecker(_, second, _)) => [second.rows()?, second.columns()?],
            _ => [1, 1],
        };
        let (rows, columns) = (rows.side(0, times[0]), columns.side(1, times[1]));
        Ok(Some(Origin { rows, columns, take: Take::Whole }))
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
