//! What loading takes, measured in processes of their own: the peak against the weights.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use candle_core::DType;
use common::checkpoints::{part, weights};
use common::memory::{self, peak_of_child};
use common::zeros;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::weights::Part;

/// A transformer of 155 million parameters in one double-stream block and two single-stream blocks.
const CONFIG: &str = r#"{
    "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 128,
    "num_attention_heads": 12, "joint_attention_dim": 256, "pooled_projection_dim": 128,
    "guidance_embeds": true
}"#;

/// What a child process is to load: a file, and whether its blocks stay.
const FILE: &str = "MASUKA_TEST_FILE";
const STREAMED: &str = "MASUKA_TEST_STREAMED";

#[test]
fn loading_takes_the_weights_and_little_more() {
    let config: FluxConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let folder = tempfile::tempdir().expect("a folder");
    for (name, size) in [("BF16", 2), ("F32", 4), ("F8_E4M3", 1)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        zeros::write(&path, &zeros::in_bfl_names(&zeros::flux(&config)), name, size);
        let bytes = weights(part(&path, Part::Transformer), DType::BF16).bytes();
        let path = path.as_os_str();
        let peak =
            |more: &[_]| peak_of_child("child_that_is_measured", &[&[(FILE, path)], more].concat());
        let (resident, streamed) = (peak(&[]), peak(&[(STREAMED, "1".as_ref())]));
        println!("{name}: weights {bytes}, peak {resident}, streamed {streamed}");
        assert!(bytes > 300_000_000, "{bytes}");
        assert!(resident > bytes * 9 / 10, "the peak cannot be below the weights");
        assert!(resident <= bytes * 11 / 10, "{name}: {resident} for {bytes}");
        // The double-stream block is more than half of this model.
        assert!(streamed <= bytes * 7 / 10, "{name}: {streamed} streamed for {bytes}");
    }
}

/// Loads what the environment names and prints by how much that raised the process's memory at most.
#[test]
fn child_that_is_measured() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let config: FluxConfig = serde_json::from_str(CONFIG).expect("a configuration");
    let streamed = std::env::var_os(STREAMED).is_some();
    let residency = if streamed { Residency::Streamed } else { Residency::Resident };
    let before = memory::resident();
    let weights = weights(part(Path::new(&path), Part::Transformer), DType::BF16);
    let model = FluxTransformer::load(&weights, &config, residency).expect("it loads");
    memory::report_peak(before);
    drop(model);
}
