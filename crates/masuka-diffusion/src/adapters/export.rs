//! From updates to a file in another convention's names. Layers that a convention joins are joined by blocks, or by
//! their common A where they have one; reading them again gives back every number.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value, json};

use super::lora_formats::{Convention, HEADER_KEY, LoraFormat};
use super::update::Scaling;
use super::{Delta, LoraAdapter, LoraUpdate, Target};
use crate::error::{Error, Result};
use crate::weights::names::Take;

/// A convention that adapters can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// diffusers, with alpha in the header.
    Diffusers,
    /// kohya-ss/sd-scripts.
    Kohya,
    /// ComfyUI, in the spelling that diffusers reads as well.
    ComfyUi,
}

/// The content of a file.
#[derive(Debug, Clone)]
pub struct ExportedAdapter {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Entries of the header.
    pub metadata: BTreeMap<String, String>,
}

/// A plain LoRA of one layer on its way out.
#[derive(Clone)]
struct Plain {
    up: Tensor,
    down: Tensor,
    scale: f64,
}

impl ExportedAdapter {
    /// Writes a safetensors file beside `path` and then moves it there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let partial = path.with_extension("partial");
        let metadata: HashMap<_, _> = self.metadata.clone().into_iter().collect();
        safetensors::serialize_to_file(&self.tensors, Some(metadata), &partial)
            .map_err(|e| Error::model(path.display(), format!("cannot be written: {e}")))?;
        std::fs::rename(&partial, path).map_err(|e| Error::io(path, e))
    }
}

impl LoraAdapter {
    /// This adapter in the names of `format`.
    ///
    /// # Errors
    /// When an update is no plain LoRA, which is all that every reader of these conventions understands.
    pub fn export(&self, format: ExportFormat) -> Result<ExportedAdapter> {
        match format {
            ExportFormat::Diffusers => self.export_diffusers(),
            ExportFormat::Kohya => self.export_joined(LoraFormat::Kohya),
            ExportFormat::ComfyUi => self.export_joined(LoraFormat::ComfyUi),
        }
    }

    fn export_diffusers(&self) -> Result<ExportedAdapter> {
        let convention = Convention::named(LoraFormat::Diffusers);
        let mut tensors = BTreeMap::new();
        let mut scalings: BTreeMap<Target, BTreeMap<&str, Scaling>> = BTreeMap::new();
        for ((target, layer), update) in self.updates() {
            let plain = self.plain(layer, update)?;
            let (module, _) = self.spell(convention, *target, layer)?;
            let rank = plain.down.dim(0)?;
            let scaling = update.scaling.unwrap_or(Scaling { alpha: rank as f64, rank });
            scalings.entry(*target).or_default().insert(layer, scaling);
            tensors.insert(format!("{module}.lora_A.weight"), plain.down);
            tensors.insert(format!("{module}.lora_B.weight"), plain.up);
        }
        let mut entries = Map::new();
        for (target, scalings) in &scalings {
            configure(&mut entries, target.component(), scalings);
        }
        let header = [
            (HEADER_KEY.to_owned(), Value::Object(entries).to_string()),
            ("format".to_owned(), "pt".to_owned()),
        ];
        Ok(ExportedAdapter { tensors, metadata: header.into() })
    }

    fn export_joined(&self, format: LoraFormat) -> Result<ExportedAdapter> {
        let convention = Convention::named(format);
        let mut modules: BTreeMap<String, Vec<(Take, Plain)>> = BTreeMap::new();
        for ((target, layer), update) in self.updates() {
            let (module, take) = self.spell(convention, *target, layer)?;
            modules.entry(module).or_default().push((take, self.plain(layer, update)?));
        }
        let mut tensors = BTreeMap::new();
        for (module, parts) in modules {
            let Plain { up, down, scale } = join(parts)?;
            let alpha = (scale * down.dim(0)? as f64) as f32;
            tensors.insert(format!("{module}.alpha"), Tensor::new(alpha, &Device::Cpu)?);
            tensors.insert(format!("{module}.lora_down.weight"), down);
            tensors.insert(format!("{module}.lora_up.weight"), up);
        }
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        Ok(ExportedAdapter { tensors, metadata })
    }

    fn plain(&self, layer: &str, update: &LoraUpdate) -> Result<Plain> {
        let low_rank = update.delta.as_ref().and_then(Delta::low_rank);
        match low_rank.filter(|_| update.is_plain()) {
            Some((up, down)) => {
                Ok(Plain { up: up.clone(), down: down.clone(), scale: update.scale() })
            }
            None => {
                let message =
                    format!("`{layer}` is adapted by more than LoRA, which cannot be exported");
                Err(Error::model(self.path().display(), message))
            }
        }
    }

    fn spell(
        &self,
        convention: &Convention,
        target: Target,
        layer: &str,
    ) -> Result<(String, Take)> {
        convention.spell(target, layer).ok_or_else(|| {
            let message =
                format!("`{layer}` has no name in the {} convention", convention.format());
            Error::model(self.path().display(), message)
        })
    }
}

/// The entries of PEFT's configuration for one component: the commonest rank and alpha, and the exceptions.
fn configure(entries: &mut Map<String, Value>, component: &str, layers: &BTreeMap<&str, Scaling>) {
    let rank = commonest(layers.values().map(|scaling| scaling.rank as f64));
    let alpha = commonest(layers.values().map(|scaling| scaling.alpha));
    // Anchored, because PEFT takes a pattern for the tail of a name.
    let exceptions = |usual: f64, of: fn(&Scaling) -> f64, value: fn(&Scaling) -> Value| {
        let unusual = layers.iter().filter(|(_, scaling)| of(scaling) != usual);
        let patterns = unusual.map(|(layer, scaling)| (format!("^{layer}"), value(scaling)));
        Value::Object(patterns.collect())
    };
    let ranks = exceptions(rank, |s| s.rank as f64, |s| json!(s.rank));
    let alphas = exceptions(alpha, |s| s.alpha, |s| json!(s.alpha));
    for (field, value) in [
        ("r", json!(rank as usize)),
        ("lora_alpha", json!(alpha)),
        ("rank_pattern", ranks),
        ("alpha_pattern", alphas),
        ("target_modules", json!(layers.keys().collect::<Vec<_>>())),
        ("lora_bias", json!(false)),
        ("use_dora", json!(false)),
    ] {
        entries.insert(format!("{component}.{field}"), value);
    }
}

fn commonest(values: impl Iterator<Item = f64>) -> f64 {
    let mut counts: Vec<(f64, usize)> = Vec::new();
    for value in values {
        match counts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, count)) => *count += 1,
            None => counts.push((value, 1)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or(1.0, |(value, _)| value)
}

/// The layers of one module as one.
fn join(mut parts: Vec<(Take, Plain)>) -> Result<Plain> {
    if let [(take, plain)] = parts.as_slice()
        && !matches!(take, Take::Rows { .. })
    {
        let ranges = take.ranges(plain.up.dim(0)?);
        let up = super::delta::select_rows(&plain.up, &ranges)?;
        return Ok(Plain { up, ..plain.clone() });
    }
    parts.sort_by_key(|(take, _)| shares(*take).0);
    let (dtype, scale) = (common_dtype(&parts), parts[0].1.scale);
    for (_, plain) in &mut parts {
        if plain.scale != scale {
            plain.up = (plain.up.to_dtype(DType::F32)? * (plain.scale / scale))?;
        }
        (plain.up, plain.down) = (plain.up.to_dtype(dtype)?, plain.down.to_dtype(dtype)?);
    }
    let shared = parts.iter().map(|(_, plain)| same(&plain.down, &parts[0].1.down));
    let shared = shared.collect::<Result<Vec<_>>>()?.into_iter().all(|same| same);
    let ranks = parts.iter().map(|(_, plain)| plain.down.dim(0)).collect::<Result<Vec<_>, _>>()?;
    let rank = if shared { ranks[0] } else { ranks.iter().sum() };
    let (first, last, of) = shares(parts[0].0);
    let unit = parts[0].1.up.dim(0)? / (last - first);
    let (mut rows, mut covered, mut before) = (Vec::new(), 0, 0);
    for (take, plain) in &parts {
        let (first, last, _) = shares(*take);
        if first > covered {
            rows.push(Tensor::zeros(((first - covered) * unit, rank), dtype, &Device::Cpu)?);
        }
        let own = plain.up.dim(1)?;
        rows.push(if shared {
            plain.up.clone()
        } else {
            plain.up.pad_with_zeros(1, before, rank - before - own)?
        });
        before += own;
        covered = last;
    }
    if of > covered {
        rows.push(Tensor::zeros(((of - covered) * unit, rank), dtype, &Device::Cpu)?);
    }
    let downs: Vec<_> = parts.iter().map(|(_, plain)| plain.down.clone()).collect();
    let down = if shared { downs[0].clone() } else { Tensor::cat(&downs, 0)? };
    Ok(Plain { up: Tensor::cat(&rows, 0)?, down, scale })
}

/// First and last share of a layer in its module, and how many there are.
fn shares(take: Take) -> (usize, usize, usize) {
    match take {
        Take::Rows { first, last, of } => (first, last, of),
        Take::Whole | Take::SwappedHalves | Take::Pointwise => (0, 1, 1),
    }
}

fn common_dtype(parts: &[(Take, Plain)]) -> DType {
    let dtype = parts[0].1.up.dtype();
    let mut tensors = parts.iter().flat_map(|(_, plain)| [&plain.up, &plain.down]);
    let scaled = parts.iter().any(|(_, plain)| plain.scale != parts[0].1.scale);
    if tensors.all(|tensor| tensor.dtype() == dtype) && !scaled { dtype } else { DType::F32 }
}

fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() {
        return Ok(false);
    }
    let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    Ok(numbers(a)? == numbers(b)?)
}
