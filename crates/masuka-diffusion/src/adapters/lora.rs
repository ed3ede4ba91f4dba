//! One adapter file: its updates by the layers they change, and the tensors without effect.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::apply::{Host, Slots};
use super::lora_formats::LoraFormat;
use super::report::ImportReport;
use super::{Branch, LoraUpdate};
use super::{dora, import};
use crate::error::Result;

/// The part of the model that an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The denoiser.
    Transformer,
    /// CLIP.
    TextEncoder,
    /// T5.
    TextEncoder2,
}

impl Target {
    /// The component's folder in diffusers' layout.
    pub fn component(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }
}

/// Updates by target and layer.
pub type Updates = BTreeMap<(Target, String), LoraUpdate>;
/// What computes in the layers of one target.
type Branches = BTreeMap<String, Branch>;

/// An adapter, read.
#[derive(Debug)]
pub struct LoraAdapter {
    pub(super) path: PathBuf,
    pub(super) format: LoraFormat,
    pub(super) updates: Updates,
    pub(super) ignored: Vec<String>,
    pub(super) zero: Vec<String>,
    pub(super) unknown: Vec<String>,
    /// The branches made last, with the host they were made for.
    pub(super) branches: Mutex<BTreeMap<Target, (String, Arc<Branches>)>>,
}

impl LoraAdapter {
    /// Reads `path` in whichever convention its names follow.
    ///
    /// # Errors
    /// When the file is damaged, holds no adapter of a known model, numbers that are none or parts that do not fit
    /// together. Tensors that no convention knows are no error here; see [`unknown`](Self::unknown).
    pub fn open(path: &Path) -> Result<Self> {
        import::read(path)
    }

    /// Whether the names in the file at `path` are those of a FLUX.1 adapter.
    ///
    /// # Errors
    /// When it is no safetensors file.
    pub fn recognises(path: &Path) -> Result<bool> {
        import::recognises(path)
    }

    /// An adapter that was not read but made; `path` is what messages call it.
    pub fn from_updates(path: &Path, updates: Updates) -> Self {
        Self {
            path: path.to_owned(),
            format: LoraFormat::Diffusers,
            updates,
            ignored: Vec::new(),
            zero: Vec::new(),
            unknown: Vec::new(),
            branches: Mutex::default(),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The convention that its names follow.
    pub fn format(&self) -> LoraFormat {
        self.format
    }

    /// The updates by target and layer (diffusers' names).
    pub fn updates(&self) -> &Updates {
        &self.updates
    }

    /// Tensors that are known and of no effect on a picture.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Tensors of modules whose update is zero everywhere.
    pub fn zero(&self) -> &[String] {
        &self.zero
    }

    /// Tensors whose names the convention does not know.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// What the file turned out to be.
    pub fn report(&self) -> ImportReport {
        ImportReport::of(self)
    }

    /// The branches, with weight 1, of the layers of `target` that `host` has. Those of the latest host are kept, so
    /// that switching back costs nothing.
    pub(super) fn branches_in(
        &self,
        target: Target,
        slots: &Slots,
        host: &Host<'_>,
    ) -> Result<Arc<Branches>> {
        let mut kept = self.branches.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("{} {:?} {:?}", host.name, host.dtype, host.device.location());
        if let Some((known, branches)) = kept.get(&target)
            && *known == id
        {
            return Ok(branches.clone());
        }
        let here =
            self.updates.iter().filter(|((t, layer), _)| *t == target && slots.contains_key(layer));
        let make = |((_, layer), update): (&(Target, String), &LoraUpdate)| {
            let (is_linear, place) = (slots[layer].is_linear(), (host.dtype, host.device));
            if update.replaces {
                let update = update.relative_to(&host.base.layer(target, layer)?)?;
                return Ok((layer.clone(), Branch::new(&update, None, is_linear, place)?));
            }
            let gain = match &update.magnitude {
                Some(_) => dora::gain(update, &host.base.layer(target, layer)?)?,
                None => None,
            };
            Ok((layer.clone(), Branch::new(update, gain, is_linear, place)?))
        };
        let branches = Arc::new(here.map(make).collect::<Result<Branches>>()?);
        kept.insert(target, (id, branches.clone()));
        Ok(branches)
    }
}
