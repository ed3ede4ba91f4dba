//! The whole state of a training in one file, so that it is there or not there and never half: adapter, optimiser,
//! moving average, losses and the recipe. Random numbers and the order of pictures follow from seed and step.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use masuka_diffusion::weights::safetensors_file::SafetensorsFile;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::recipe::Recipe;

/// Older ones are deleted: the one before is kept in case the latest is damaged by the disk.
const KEPT: usize = 2;
const RECIPE: &str = "recipe";
const PICTURES: &str = "pictures";
const LOSSES: &str = "losses";

/// The state after some steps.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What was asked for.
    pub recipe: Recipe,
    /// The hash of the pictures and captions.
    pub pictures: String,
    /// The loss of every step that was done.
    pub losses: Vec<f32>,
    /// The adapter's tensors by their names in the finished file; `mean.`, `square.` and `ema.` before the name hold
    /// the optimiser's and the moving average's.
    pub tensors: HashMap<String, Tensor>,
}

impl Checkpoint {
    /// Steps done.
    pub fn step(&self) -> usize {
        self.losses.len()
    }

    /// Writes it into `folder` and deletes all but the last two.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("step-{:08}.safetensors", self.step()));
        let losses = Tensor::from_slice(&self.losses, self.losses.len(), &Device::Cpu)?;
        let named = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let mut tensors: Vec<_> = named.chain([(LOSSES.to_owned(), losses)]).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let recipe = serde_json::to_string(&self.recipe).map_err(candle_core::Error::wrap)?;
        let metadata = HashMap::from([
            (RECIPE.to_owned(), recipe),
            (PICTURES.to_owned(), self.pictures.clone()),
        ]);
        let bytes = safetensors::serialize(tensors, Some(metadata));
        write_atomically(&path, &bytes.map_err(candle_core::Error::wrap)?)?;
        for old in paths(folder)?.into_iter().rev().skip(KEPT) {
            fs::remove_file(&old).map_err(|e| Error::io(&old, e))?;
        }
        Ok(path)
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it is damaged or no checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let damaged = || Error::unusable(path, "is damaged or no checkpoint of a training");
        let file = SafetensorsFile::open(path).map_err(|_| damaged())?;
        let recipe = file.metadata(RECIPE).and_then(|text| serde_json::from_str(text).ok());
        let pictures = file.metadata(PICTURES).map(str::to_owned);
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
        let losses = tensors.remove(LOSSES).and_then(|losses| losses.to_vec1().ok());
        let (Some(recipe), Some(pictures), Some(losses)) = (recipe, pictures, losses) else {
            return Err(damaged());
        };
        Ok(Self { recipe, pictures, losses, tensors })
    }

    /// The latest of `folder` that can be read.
    ///
    /// # Errors
    /// When there are some and none can be read.
    pub fn latest(folder: &Path) -> Result<Option<Self>> {
        let mut error = None;
        for path in paths(folder)?.into_iter().rev() {
            match Self::read(&path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(e) => error = Some(e),
            }
        }
        error.map_or(Ok(None), Err)
    }
}

/// The checkpoints of `folder`, the oldest first.
fn paths(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder, e)),
    };
    let is_checkpoint = |path: &PathBuf| {
        let name = crate::dataset::file_name(path);
        name.starts_with("step-") && name.ends_with(".safetensors")
    };
    let mut paths: Vec<_> =
        entries.filter_map(|e| e.ok().map(|e| e.path())).filter(is_checkpoint).collect();
    paths.sort();
    Ok(paths)
}
