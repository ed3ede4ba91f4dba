//! One step of training: forward pass, gradients, clipping, AdamW. What it is computed from lies in bench/work/ROW, where
//! the reference puts it when it starts, after this side: so it is loaded by the first repetition.

use std::error::Error;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::weights::{Checkpoint, Weights};
use masuka_training::adapter::{AdapterSize, Targets, TrainedAdapter};
use masuka_training::gradients::{Batch, Gradients, Keep, Learner};
use masuka_training::optimizer::{AdamW, AdamWConfig};
use masuka_training::pieces;

const SIZE: AdapterSize = AdapterSize { rank: 16, alpha: 16.0 };
const LEARNING_RATE: f64 = 1e-4;

/// Takes a step and gives the gradients before clipping.
pub type Run = Box<dyn FnMut() -> Result<Gradients, Box<dyn Error>>>;

/// `row` in `variant`, a precision; `checkpointed` keeps of each block its input alone.
pub fn open(row: &str, variant: &str) -> Result<Run, Box<dyn Error>> {
    let (precision, keep) = match variant.strip_suffix("_checkpointed") {
        Some(precision) => (precision, Keep::Inputs),
        None => (variant, Keep::Everything),
    };
    let dtype = match precision {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        other => return Err(format!("there is no precision `{other}`").into()),
    };
    let (model, work) = match row {
        "train_starter" => (repository("models/starter/transformer"), "bench/work/train_starter"),
        "train_flux_512" => {
            (repository("bench/work/train_flux_512/model"), "bench/work/train_flux_512")
        }
        _ => return Err(format!("there is no row `{row}`").into()),
    };
    let work = repository(work);
    let mut loaded = None;
    Ok(Box::new(move || {
        let mut step = match loaded.take() {
            Some(loaded) => loaded,
            None => Step::load(&model, &work, dtype)?,
        };
        let gradients = step.take(keep)?;
        loaded = Some(step);
        Ok(gradients)
    }))
}

struct Step {
    transformer: FluxTransformer,
    adapter: TrainedAdapter,
    optimizer: AdamW,
    batch: Batch,
}

impl Step {
    fn load(model: &Path, work: &Path, dtype: DType) -> Result<Self, Box<dyn Error>> {
        let config = FluxConfig::read(&model.join("config.json"))?;
        let weights = Weights::new(Box::new(Checkpoint::open(model)?), dtype, &Device::Cpu);
        let transformer = FluxTransformer::load(&weights, &config, Residency::Resident)?;
        let given = candle_core::safetensors::load(work.join("inputs.st"), &Device::Cpu)?;
        let slots = transformer.adapters();
        let adapter =
            TrainedAdapter::from_tensors(slots, Targets::AllLinear, SIZE, &given, &Device::Cpu)?;
        adapter.attach();
        let optimizer = AdamW::new(AdamWConfig::default(), adapter.parameters())?;
        let (latents, noise) = (given["latents"].clone(), given["noise"].clone());
        let side = latents.dim(1)?.isqrt();
        let batch = Batch {
            latents,
            noise,
            target: None,
            sigmas: given["sigmas"].to_vec1()?,
            conditioning: Conditioning {
                txt: given["txt"].clone(),
                pooled: given["pooled"].clone(),
            },
            grid: (side, side),
        };
        Ok(Self { transformer, adapter, optimizer, batch })
    }

    fn take(&mut self, keep: Keep) -> Result<Gradients, Box<dyn Error>> {
        let (transformer, adapter) = (&self.transformer, &self.adapter);
        let learner = Learner { transformer, adapter, keep, guidance: 1.0, by_graph: false };
        let mut gradients = Gradients::zeros(adapter)?;
        pieces::learn(&learner, &self.batch, 1.0, &mut gradients, &|| true)?;
        let mut clipped = gradients.clone();
        clipped.clip(1.0)?;
        self.optimizer.step(adapter.parameters(), &clipped, LEARNING_RATE)?;
        Ok(gradients)
    }
}

/// A path within the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
