//! What the memory modes take, measured in processes of their own, beside what was estimated before loading.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use common::memory::{self, peak_of_child};
use common::{repo, starter, zeros};
use masuka_diffusion::Error;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline, MemoryEstimate};
use masuka_diffusion::pipelines::{LoadOptions, Offload, PictureSize, Precision};

const MODEL: &str = "MASUKA_TEST_MODEL";
const OFFLOAD: &str = "MASUKA_TEST_OFFLOAD";
const ENCODES: &str = "MASUKA_TEST_ENCODES";
const MODES: [Offload; 3] = [Offload::None, Offload::Components, Offload::Blocks];
/// The starter's own, for which loading is checked.
const SIZE: PictureSize = PictureSize { width: 128, height: 128 };

/// The starter's CLIP, autoencoder and tokenizers, with a transformer (310 MB in bf16) and a T5 (290 MB) of zeros.
fn large_model(folder: &Path) {
    let starter = repo("models/starter");
    for part in ["text_encoder", "vae", "tokenizer", "tokenizer_2", "scheduler"] {
        std::os::unix::fs::symlink(starter.join(part), folder.join(part)).expect("a link");
    }
    std::fs::copy(starter.join("model_index.json"), folder.join("model_index.json"))
        .expect("copied");
    let write = |part: &str, config: &str| {
        let path = folder.join(part).join("config.json");
        std::fs::create_dir_all(folder.join(part)).expect("a folder");
        std::fs::write(path, config).expect("written");
        folder.join(part).join("model.safetensors")
    };
    let config = r#"{
        "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 128,
        "num_attention_heads": 12, "joint_attention_dim": 1024, "pooled_projection_dim": 128,
        "axes_dims_rope": [16, 56, 56], "guidance_embeds": true
    }"#;
    let path = write("transformer", config).with_file_name("diffusion_pytorch_model.safetensors");
    zeros::write(&path, &zeros::flux(&serde_json::from_str(config).expect("sizes")), "BF16", 2);
    let config = r#"{
        "d_model": 1024, "d_kv": 64, "num_heads": 16, "d_ff": 8192, "num_layers": 5, "vocab_size": 3000,
        "feed_forward_proj": "gated-gelu"
    }"#;
    let path = write("text_encoder_2", config);
    zeros::write(&path, &zeros::t5(&serde_json::from_str(config).expect("sizes")), "BF16", 2);
}

fn options(offload: Offload, available_bytes: Option<u64>) -> LoadOptions {
    LoadOptions { device: Device::Cpu, precision: Precision::Bf16, offload, available_bytes }
}

fn load(model: &Path, offload: Offload, available: Option<u64>) -> Result<FluxPipeline, Error> {
    FluxPipeline::load(FluxFiles::folder(model), &options(offload, available), &Unobserved)
}

fn estimate(model: &Path) -> MemoryEstimate {
    let pipeline = load(model, Offload::Blocks, None).expect("nothing is loaded yet");
    pipeline.estimate_memory(SIZE).expect("an estimate")
}

#[test]
fn each_memory_mode_stays_below_its_estimate() {
    let folder = tempfile::tempdir().expect("a folder");
    large_model(folder.path());
    let estimate = estimate(folder.path());
    let all = estimate.text_encoders + estimate.transformer + estimate.vae;
    let largest = estimate.text_encoders.max(estimate.transformer);
    for offload in MODES {
        let name = offload.to_string();
        let environment = [(MODEL, folder.path().as_os_str()), (OFFLOAD, name.as_ref())];
        let peak = peak_of_child("child_that_draws", &environment);
        println!("{offload}: peak {peak}, estimate {}, weights {all}", estimate.peak(offload));
        assert!(peak <= estimate.peak(offload), "{offload}: {peak} above the estimate");
        let least = match offload {
            Offload::None => all,
            Offload::Components => largest,
            Offload::Blocks => estimate.text_encoders,
        };
        assert!(peak > least * 9 / 10, "{offload}: {peak} is less than the weights {least}");
        if offload != Offload::None {
            assert!(peak < all * 3 / 4, "{offload}: {peak} of {all}: more than one component");
        }
    }
}

/// Draws one step in the mode that the environment names, and reports the peak.
#[test]
fn child_that_draws() {
    let Some(model) = std::env::var_os(MODEL).map(PathBuf::from) else { return };
    let offload = std::env::var(OFFLOAD).expect("a mode").parse().expect("a mode");
    let before = memory::resident();
    let mut pipeline = load(&model, offload, None).expect("the model loads");
    starter::draw_four_steps(&mut pipeline);
    memory::report_peak(before);
}

/// A side at which the picture takes far more than the starter's weights.
const LARGE: usize = 1024;

#[test]
fn encoding_a_picture_stays_below_its_estimate() {
    let large = PictureSize { width: LARGE, height: LARGE };
    let pipeline = load(&repo("models/starter"), Offload::Blocks, None).expect("the starter");
    let estimate = pipeline.estimate_memory(large).expect("an estimate");
    let estimate = estimate.vae + estimate.encode_activations;
    let peak = peak_of_child("child_that_encodes", &[(ENCODES, "1".as_ref())]);
    println!("encoding: peak {} MiB, estimate {} MiB", peak >> 20, estimate >> 20);
    assert!(peak <= estimate, "{peak} above the estimate {estimate}");
    assert!(peak >= estimate / 2, "{peak} of {estimate}: refuses what would fit");
}

/// Encodes a large picture, and reports the peak.
#[test]
fn child_that_encodes() {
    if std::env::var_os(ENCODES).is_none() {
        return;
    }
    let mut pipeline = load(&repo("models/starter"), Offload::Blocks, None).expect("the starter");
    let picture = Tensor::rand(-1f32, 1.0, (1, 3, LARGE, LARGE), &Device::Cpu).expect("noise");
    let before = memory::resident();
    pipeline.encode_picture(&picture, &Unobserved).expect("latents");
    memory::report_peak(before);
}

#[test]
fn a_mode_that_does_not_fit_is_refused_and_one_that_does_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    large_model(folder.path());
    let estimate = estimate(folder.path());
    let [none, components, blocks] = MODES.map(|mode| estimate.peak(mode));
    assert!(blocks < components && components < none, "{estimate:?}");
    for (offload, available, expected) in [
        (Offload::None, components, "`--offload components` needs"),
        (Offload::None, blocks, "`--offload blocks` needs"),
        (Offload::Components, blocks, "`--offload blocks` needs"),
        (Offload::Blocks, blocks - 1, "even `--offload blocks` needs"),
    ] {
        let refused = load(folder.path(), offload, Some(available));
        let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(&format!("memory mode `{offload}` needs about")), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    for (offload, needed) in MODES.into_iter().zip([none, components, blocks]) {
        if offload != Offload::None {
            assert!(load(folder.path(), offload, Some(needed)).is_ok(), "{offload}");
        }
    }
}

#[test]
fn what_is_loaded_is_granted_besides_what_is_free() {
    let model = repo("models/starter");
    for offload in [Offload::None, Offload::Components] {
        let mut pipeline = load(&model, offload, None).expect("the model loads");
        let estimate = pipeline.estimate_memory(SIZE).expect("an estimate");
        let all = estimate.text_encoders + estimate.transformer + estimate.vae;
        let held = if offload == Offload::None { all } else { 0 };
        let enough = estimate.peak(offload) - held;
        for (free, fits) in [(Some(enough), true), (Some(enough - 1), false), (None, true)] {
            pipeline.grant(free).expect("an estimate");
            let checked = pipeline.check_room(SIZE);
            assert_eq!(checked.is_ok(), fits, "{offload} {free:?}");
        }
    }
}
