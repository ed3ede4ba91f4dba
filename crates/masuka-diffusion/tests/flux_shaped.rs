//! A model as wide as FLUX.1-dev, against diffusers. Its files (2.5 GB) are made on demand: `just test-flux-shaped`.
#![cfg(target_os = "linux")]

mod common;

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use common::checkpoints::{part, weights};
use common::memory::{self, peak_of_child};
use common::starter::{draw, largest_difference, limit_level, psnr};
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, LoadOptions, Offload, PictureSize, Precision, SamplerName,
};
use masuka_diffusion::vaes::{AutoencoderKl, AutoencoderKlConfig, Tiling};
use masuka_diffusion::weights::Part;

/// Where `fixtures/flux_shaped/make.py` wrote it.
fn out(path: &str) -> PathBuf {
    common::repo("fixtures/flux_shaped/out").join(path)
}

fn load(files: FluxFiles, precision: Precision) -> FluxPipeline {
    limit_level();
    let offload = Offload::Components;
    let options = LoadOptions { device: Device::Cpu, precision, offload, available_bytes: None };
    FluxPipeline::load(files, &options, &Unobserved).unwrap_or_else(|e| panic!("{e}"))
}

/// The same model, its transformer in Black Forest Labs' names.
fn single_file() -> FluxFiles {
    FluxFiles { model: out("flux.safetensors"), base: Some(out("model")), ..FluxFiles::default() }
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "red apple, noto style".to_owned(),
        guidance: Guidance { embedded: 3.5, negative: None },
        steps: 2,
        sampler: SamplerName::Euler,
        size: PictureSize { width: 64, height: 64 },
        seed: Seed::new(7).expect("a seed"),
        num_images: 1,
    }
}

fn expected(name: &str) -> Tensor {
    let tensors = common::tensors("fixtures/flux_shaped/out/expected.safetensors");
    tensors[name].to_dtype(DType::F32).expect("f32")
}

fn picture(name: &str) -> Vec<f32> {
    expected(name).flatten_all().and_then(|t| t.to_vec1()).expect("pixels")
}

#[test]
#[ignore = "its model is made on demand: `just test-flux-shaped`"]
fn the_prompt_is_encoded_as_by_diffusers() {
    let mut pipeline = load(FluxFiles::folder(&out("model")), Precision::F32);
    let conditioning =
        pipeline.conditioning(&request().prompt, &Unobserved).expect("an encoded prompt");
    common::assert_close(&conditioning.txt, &expected("prompt_embeds"), 1e-4);
    common::assert_close(&conditioning.pooled, &expected("pooled"), 1e-4);
}

#[test]
#[ignore = "its model is made on demand: `just test-flux-shaped`"]
fn the_picture_equals_diffusers_from_a_folder_and_from_a_single_file() {
    let found = draw(&mut load(FluxFiles::folder(&out("model")), Precision::F32), &request());
    let difference = largest_difference(&found, &picture("image"));
    println!("f32: {difference:.1e}");
    assert!(difference <= 1e-3, "{difference}");
    let single = draw(&mut load(single_file(), Precision::F32), &request());
    assert!(found == single, "the single file gives other bits");
}

#[test]
#[ignore = "its model is made on demand: `just test-flux-shaped`"]
fn the_picture_in_bf16_is_no_further_from_f32_than_diffusers_own() {
    let found = draw(&mut load(FluxFiles::folder(&out("model")), Precision::Bf16), &request());
    let ours = psnr(&found, &picture("image"));
    let theirs = psnr(&picture("image_bf16"), &picture("image"));
    println!("bf16: {ours:.1} dB, diffusers {theirs:.1} dB");
    assert!(ours >= theirs, "{ours} dB, diffusers {theirs} dB");
}

const SIDE: usize = 512;
const IN_BANDS: &str = "MASUKA_TEST_IN_BANDS";

#[test]
#[ignore = "its model is made on demand: `just test-flux-shaped`"]
fn decoding_stays_below_its_estimate() {
    let config = AutoencoderKlConfig::read(&out("model/vae/config.json")).expect("a configuration");
    for (tiling, environment) in
        [(Tiling::Whole, vec![]), (Tiling::BANDS, vec![(IN_BANDS, "1".as_ref())])]
    {
        let estimate =
            config.decode_peak_bytes((SIDE, SIDE), DType::BF16, &Device::Cpu, tiling) as u64;
        let peak = peak_of_child("child_that_decodes", &environment);
        println!("{tiling:?}: peak {} MiB, estimate {} MiB", peak >> 20, estimate >> 20);
        assert!(peak <= estimate, "{tiling:?}: {peak} above the estimate {estimate}");
        assert!(peak >= estimate / 3, "{tiling:?}: {peak} of {estimate}: refuses what would fit");
    }
}

/// Decodes a picture, whole or as the environment says, and reports the peak beside the weights.
#[test]
#[ignore = "run by `decoding_stays_below_its_estimate`"]
fn child_that_decodes() {
    let tiling = if std::env::var_os(IN_BANDS).is_some() { Tiling::BANDS } else { Tiling::Whole };
    let folder = out("model/vae");
    let config = AutoencoderKlConfig::read(&folder.join("config.json")).expect("a configuration");
    let weights = weights(part(&folder, Part::Autoencoder), DType::BF16);
    let vae = AutoencoderKl::load(&weights, &config).expect("it loads");
    let latents = Tensor::randn(0.0_f32, 1.0, (1, 16, SIDE / 8, SIDE / 8), &Device::Cpu);
    let latents = vae.scale(&latents.expect("noise")).expect("latents");
    let before = memory::resident();
    vae.decode(&latents, tiling, &Unobserved).expect("a picture");
    memory::report_peak(before);
}
