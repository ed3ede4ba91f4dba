//! What the tests share: fixtures, the tiny transformer, the measure of agreement.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod starter; // the starter model, and trainings on it

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::transformers::flux::FluxTransformer;
use masuka_diffusion::weights::{Checkpoint, Weights};
use masuka_training::adapter::{AdapterSize, Targets, TrainedAdapter};
use masuka_training::gradients::Batch;

/// A path below the repository's root.
pub fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The tensors of a file.
pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The transformer of `folder` in f32.
pub fn transformer(folder: &Path) -> FluxTransformer {
    transformer_in(folder, DType::F32)
}

/// The transformer of `folder`.
pub fn transformer_in(folder: &Path, dtype: DType) -> FluxTransformer {
    let file = folder.join("diffusion_pytorch_model.safetensors");
    let source = Checkpoint::from_files(folder, &[file]).expect("the fixture's weights");
    let weights = Weights::new(Box::new(source), dtype, &Device::Cpu);
    let config = std::fs::read(folder.join("config.json")).expect("the fixture's configuration");
    let config = serde_json::from_slice(&config).expect("valid JSON");
    FluxTransformer::load(&weights, &config, Residency::Resident).expect("the fixture loads")
}

/// The adapter whose tensors are those of `io` that begin with `prefix`.
pub fn adapter(
    transformer: &FluxTransformer,
    targets: Targets,
    size: AdapterSize,
    io: &HashMap<String, Tensor>,
    prefix: &str,
) -> TrainedAdapter {
    let named = io
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone())));
    let slots = transformer.adapters();
    TrainedAdapter::from_tensors(slots, targets, size, &named.collect(), &Device::Cpu)
        .expect("the fixture's adapter fits")
}

/// The batch of `io`, with the given noise and sigmas.
pub fn batch(io: &HashMap<String, Tensor>, noise: Tensor, sigmas: Vec<f32>) -> Batch {
    let grid = io["grid"].to_vec1::<i64>().expect("the grid");
    Batch {
        latents: io["latents"].clone(),
        noise,
        target: None,
        sigmas,
        conditioning: Conditioning { txt: io["txt"].clone(), pooled: io["pooled"].clone() },
        grid: (grid[0] as usize, grid[1] as usize),
    }
}

/// max |a − b| / max |b|.
pub fn relative_error(actual: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(actual.dims(), expected.dims());
    let numbers = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("numbers");
    let (actual, expected) = (numbers(actual), numbers(expected));
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0.0, |a, b| if b.is_nan() { f64::NAN } else { f64::max(a, b.abs().into()) })
    };
    let error = largest(&mut actual.iter().zip(&expected).map(|(a, b)| a - b))
        / largest(&mut expected.iter().copied());
    assert!(!error.is_nan(), "not a number");
    error
}
