//! The starter model, and trainings on it.

use std::path::Path;

use candle_core::Device;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{LoadOptions, Offload, Precision};
use masuka_training::dataset::Dataset;
use masuka_training::recipe::Recipe;
use masuka_training::samples::Samples;
use masuka_training::trainer::Training;

/// The model in f32, of which nothing is loaded.
pub fn starter() -> FluxPipeline {
    let files = FluxFiles::folder(&super::repo("models/starter"));
    let (device, precision, offload) = (Device::Cpu, Precision::F32, Offload::None);
    let options = LoadOptions { device, precision, offload, available_bytes: None };
    FluxPipeline::open(files, &options).expect("the starter opens")
}

/// A training in `run_folder`, whose adapter comes to lie beside it; without samples or checkpoints on the way.
pub fn training(run_folder: &Path, dataset: Dataset, recipe: Recipe) -> Training {
    Training {
        dataset,
        dataset_name: "photos".to_owned(),
        output: run_folder.with_extension("safetensors"),
        run_folder: run_folder.to_owned(),
        cache_folder: run_folder.join("cache"),
        recipe,
        save_every: 0,
        samples: Samples::default(),
        base_model: "starter".to_owned(),
        model_fingerprint: "starter".to_owned(),
        available_bytes: None,
        software: "test".to_owned(),
    }
}
