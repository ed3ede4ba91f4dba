//! One adapter file: its low-rank updates by the module they change, and the tensors nobody could place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::lora_formats::{self, TensorRole};
use crate::error::{Error, Result};
use crate::weights::safetensors_file::SafetensorsFile;

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

/// One low-rank update of one linear layer.
#[derive(Debug, Clone)]
pub struct LoraUpdate {
    /// A, (rank, in), in f32.
    pub down: Tensor,
    /// B, (out, rank), in f32.
    pub up: Tensor,
    /// Alpha; the update is scaled by alpha / rank.
    pub alpha: f64,
    /// The file's name of A, for messages.
    pub tensor: String,
    /// How many tensors of the file the update is made of.
    pub tensors: usize,
}

impl LoraUpdate {
    /// The rank.
    ///
    /// # Errors
    /// When A is no matrix.
    pub fn rank(&self) -> Result<usize> {
        Ok(self.down.dims2()?.0)
    }
}

/// A LoRA file, read.
#[derive(Debug, Clone)]
pub struct LoraAdapter {
    path: PathBuf,
    updates: BTreeMap<(Target, String), LoraUpdate>,
    ignored: Vec<String>,
    unknown: Vec<String>,
}

/// The tensors of one module before they are known to be complete.
#[derive(Default)]
struct Parts {
    down: Option<(String, Tensor)>,
    up: Option<(String, Tensor)>,
    alpha: Option<f64>,
    tensors: usize,
}

impl LoraAdapter {
    /// Reads `path` in whichever convention its names follow.
    ///
    /// # Errors
    /// When the file is damaged, half of a pair is missing, or ranks disagree. Tensors that no convention knows are
    /// no error here; see [`unknown`](Self::unknown).
    pub fn open(path: &Path) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let alphas = lora_formats::MetadataAlphas::read(&file)?;
        let mut parts: BTreeMap<(Target, String), Parts> = BTreeMap::new();
        let (mut ignored, mut unknown) = (Vec::new(), Vec::new());
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        for name in names {
            let Some(place) = lora_formats::place(&name) else {
                unknown.push(name);
                continue;
            };
            let part = parts.entry((place.target, place.module)).or_default();
            part.tensors += 1;
            let tensor = lora_formats::read_f32(&file, &name)?;
            match place.role {
                TensorRole::Down => part.down = Some((name, tensor)),
                TensorRole::Up => part.up = Some((name, tensor)),
                TensorRole::Alpha => {
                    part.alpha = Some(lora_formats::scalar(&file, &name, &tensor)?);
                }
                TensorRole::Ignored => ignored.push(name),
            }
        }
        let updates = parts
            .into_iter()
            .filter(|(_, part)| part.down.is_some() || part.up.is_some() || part.alpha.is_some())
            .map(|(place, part)| Ok((place.clone(), part.complete(path, &place, &alphas)?)))
            .collect::<Result<_>>()?;
        Ok(Self { path: path.to_owned(), updates, ignored, unknown })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The updates by target and module name (diffusers' names).
    pub fn updates(&self) -> &BTreeMap<(Target, String), LoraUpdate> {
        &self.updates
    }

    /// Tensors that are known and of no effect.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Tensors whose names no convention knows.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

impl Parts {
    fn complete(
        self,
        path: &Path,
        (target, module): &(Target, String),
        alphas: &lora_formats::MetadataAlphas,
    ) -> Result<LoraUpdate> {
        let half = |which: &str| {
            Error::model(path.display(), format!("the {which} projection of `{module}` is missing"))
        };
        let (tensor, down) = self.down.ok_or_else(|| half("down (lora_A)"))?;
        let (up_name, up) = self.up.ok_or_else(|| half("up (lora_B)"))?;
        let mismatch = || {
            let (a, b) = (down.dims(), up.dims());
            let message = format!("`{tensor}` {a:?} and `{up_name}` {b:?} are no pair of one rank");
            Error::model(path.display(), message)
        };
        match (down.dims(), up.dims()) {
            ([rank, _], [_, up_rank]) if rank == up_rank && *rank > 0 => {
                let alpha = self.alpha.or_else(|| alphas.of(*target, module));
                let alpha = alpha.unwrap_or(*rank as f64);
                Ok(LoraUpdate { down, up, alpha, tensor, tensors: self.tensors })
            }
            _ => Err(mismatch()),
        }
    }
}
