//! What all parity tests share: fixtures, and the measure of agreement.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod checkpoints; // files written for a test
pub mod flux; // the transformer with the inputs of a fixture
pub mod memory; // peaks of child processes
pub mod starter; // the starter model, drawn with
pub mod zeros; // large models that take no room on the disk

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::weights::{Checkpoint, Weights};

/// A path below the repository's root.
pub fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What models compute on: the processor, or what `MASUKA_DEVICE` names.
pub fn device() -> Device {
    let name = std::env::var("MASUKA_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    name.parse().and_then(DeviceKind::open).unwrap_or_else(|e| panic!("{e}"))
}

/// The tensors of a fixture file.
pub fn tensors(path: &str) -> HashMap<String, Tensor> {
    let path = repo(path);
    candle_core::safetensors::load(&path, &device())
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The weights of a component folder as `dtype`.
pub fn weights(folder: &str, dtype: DType) -> Weights {
    let folder = repo(folder);
    let names = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
    let files: Vec<_> = names.iter().map(|n| folder.join(n)).filter(|p| p.exists()).collect();
    let source = Checkpoint::from_files(&folder, &files).expect("the fixture's weights");
    Weights::new(Box::new(source), dtype, &device())
}

/// A JSON file as `T`.
pub fn json<T: serde::de::DeserializeOwned>(path: &str) -> T {
    let text = std::fs::read_to_string(repo(path)).expect("the fixture's JSON");
    serde_json::from_str(&text).expect("valid JSON")
}

/// `x` in f32 on the processor.
pub fn on_processor(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).and_then(|x| x.to_device(&Device::Cpu)).expect("a copy")
}

/// max |a − b| / max |b|.
pub fn relative_error(actual: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(actual.dims(), expected.dims());
    let [actual, expected] = [actual, expected].map(on_processor);
    let max = |t: &Tensor| {
        let max = t.abs().and_then(|t| t.flatten_all()?.max(0)?.to_scalar::<f32>());
        max.expect("a maximum")
    };
    let difference = (actual - &expected).expect("equal shapes");
    let error = max(&difference) / max(&expected);
    assert!(!error.is_nan(), "not a number");
    error
}

/// Asserts agreement within `tolerance`, relative to the largest expected value.
#[track_caller]
pub fn assert_close(actual: &Tensor, expected: &Tensor, tolerance: f32) {
    let error = relative_error(actual, expected);
    println!("relative error {error:.2e}");
    assert!(error <= tolerance, "relative error {error:e} is above {tolerance:e}");
}
