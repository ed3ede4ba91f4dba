//! Single files in Black Forest Labs' names, against diffusers' own reading of them.

mod common;

use candle_core::{DType, Device};
use common::checkpoints::{config, in_other_names, part, weights, write};
use common::starter::{draw_four_steps, load_files};
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::FluxFiles;
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::vaes::{AutoencoderKl, AutoencoderKlConfig, Tiling};
use masuka_diffusion::weights::names::autoencoder_bfl::AUTOENCODER_BFL;
use masuka_diffusion::weights::names::flux_bfl::FLUX_BFL;
use masuka_diffusion::weights::{Checkpoint, FromShapes, Part, TensorSource};

const FILES: [&str; 4] = ["flux_f32", "flux_bf16_prefixed", "flux_fp8", "flux_fp8_scaled"];

fn fixture(file: &str) -> std::path::PathBuf {
    common::repo(&format!("fixtures/single_file/{file}.safetensors"))
}

/// Asserts that both sources hold the same numbers under the same names.
fn assert_same_tensors(found: &Checkpoint, expected: &Checkpoint) {
    assert_eq!(found.names(), expected.names());
    for name in expected.names() {
        let load =
            |source: &Checkpoint| source.load(&name, DType::F32, &Device::Cpu).expect("a tensor");
        assert_eq!(common::relative_error(&load(found), &load(expected)), 0.0, "{name}");
    }
}

#[test]
fn a_transformer_has_the_tensors_of_its_diffusers_folder() {
    let expected = part(&common::repo("fixtures/transformer/dev"), Part::Transformer);
    assert_same_tensors(&part(&fixture("flux_f32"), Part::Transformer), &expected);
}

#[test]
fn an_autoencoder_has_the_tensors_of_its_diffusers_folder() {
    let expected = part(&common::repo("fixtures/vae/four_levels"), Part::Autoencoder);
    assert_same_tensors(&part(&fixture("ae_f32"), Part::Autoencoder), &expected);
}

#[test]
fn sizes_are_told_by_shapes() {
    for file in FILES {
        let expected: FluxConfig = common::json("fixtures/transformer/dev/config.json");
        let found: FluxConfig = config(&part(&fixture(file), Part::Transformer));
        assert!(found.fits(&expected), "{file}: {found:?}");
    }
    for model in ["schnell", "other"] {
        let folder = common::repo(&format!("fixtures/transformer/{model}"));
        let expected = FluxConfig::read(&folder.join("config.json")).expect("a configuration");
        let found: FluxConfig = config(&part(&folder, Part::Transformer));
        assert!(found.fits(&expected), "{model}: {found:?}");
    }
}

#[test]
fn each_dtype_gives_the_velocity_of_its_numbers() {
    let io = common::tensors("fixtures/single_file/expected.safetensors");
    let config = common::json("fixtures/transformer/dev/config.json");
    for file in FILES {
        let weights = weights(part(&fixture(file), Part::Transformer), DType::F32);
        let model =
            FluxTransformer::load(&weights, &config, Residency::Resident).expect("it loads");
        println!("{file}");
        common::assert_close(
            &common::flux::velocity(&model, &io),
            &io[&format!("velocity.{file}")],
            1e-4,
        );
    }
}

#[test]
fn fp8_tensors_are_multiplied_by_their_scale() {
    for (key, expected) in common::tensors("fixtures/single_file/dequantised.safetensors") {
        let (file, name) = key.split_once('/').expect("a file and a tensor");
        let source = Checkpoint::open(&fixture(file)).expect("the file");
        let found = source.load(name, DType::F32, &Device::Cpu).expect("the tensor");
        assert_eq!(common::relative_error(&found, &expected), 0.0, "{key}");
    }
}

#[test]
fn an_autoencoder_decodes_as_diffusers_does() {
    let io = common::tensors("fixtures/single_file/expected.safetensors");
    let path = common::repo("fixtures/vae/four_levels/config.json");
    let config = AutoencoderKlConfig::read(&path).expect("a configuration");
    for file in ["ae_f32", "ae_bf16"] {
        let weights = weights(part(&fixture(file), Part::Autoencoder), DType::F32);
        let vae = AutoencoderKl::load(&weights, &config).expect("it loads");
        weights.finish().expect("no tensor is left over");
        let latents = vae.scale(&io["latents"]).expect("latents");
        let decoded = vae.decode(&latents, Tiling::Whole, &Unobserved).expect("a picture");
        println!("{file}");
        common::assert_close(&decoded, &io[&format!("decoded.{file}")], 1e-4);
    }
}

#[test]
fn the_starter_in_single_files_draws_the_same_picture() {
    let starter = common::repo("models/starter");
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let transformer = part(&starter.join("transformer"), Part::Transformer);
    write(
        &at("flux.safetensors"),
        &in_other_names(&transformer, &FLUX_BFL, 0, "model.diffusion_model."),
    );
    let vae = part(&starter.join("vae"), Part::Autoencoder);
    write(&at("ae.safetensors"), &in_other_names(&vae, &AUTOENCODER_BFL, 4, ""));
    let files = FluxFiles {
        model: at("flux.safetensors"),
        vae: Some(at("ae.safetensors")),
        text_encoder: Some(starter.join("text_encoder/model.safetensors")),
        text_encoder_2: Some(starter.join("text_encoder_2/model.safetensors")),
        tokenizer: Some(starter.join("tokenizer")),
        tokenizer_2: Some(starter.join("tokenizer_2/tokenizer.json")),
        base: Some(starter.clone()),
    };
    let expected = draw_four_steps(&mut load_files(FluxFiles::folder(&starter)));
    assert_eq!(draw_four_steps(&mut load_files(files)), expected);
}

#[test]
fn one_file_may_hold_all_parts() {
    let starter = common::repo("models/starter");
    let folder = tempfile::tempdir().expect("a folder");
    // What no tensor tells comes from a folder that has no weights.
    let base = folder.path().join("base");
    for name in ["tokenizer", "tokenizer_2", "scheduler"] {
        copy_small_files(&starter.join(name), &base.join(name));
    }
    let transformer = part(&starter.join("transformer"), Part::Transformer);
    let mut all = in_other_names(&transformer, &FLUX_BFL, 0, "model.diffusion_model.");
    copy_small_files(&starter.join("transformer"), &base.join("transformer"));
    let vae = part(&starter.join("vae"), Part::Autoencoder);
    all.extend(in_other_names(&vae, &AUTOENCODER_BFL, 4, "vae."));
    copy_small_files(&starter.join("vae"), &base.join("vae"));
    for (name, prefix) in [
        ("text_encoder", "text_encoders.clip_l.transformer."),
        ("text_encoder_2", "text_encoders.t5xxl.transformer."),
    ] {
        let source = Checkpoint::open(&starter.join(name)).expect("an encoder");
        let load = |name: &String| source.load(name, DType::F32, &Device::Cpu).expect("a tensor");
        all.extend(source.names().iter().map(|name| (format!("{prefix}{name}"), load(name))));
        copy_small_files(&starter.join(name), &base.join(name));
    }
    let model = folder.path().join("all.safetensors");
    write(&model, &all);
    let files = FluxFiles { model, base: Some(base), ..FluxFiles::default() };
    let expected = draw_four_steps(&mut load_files(FluxFiles::folder(&starter)));
    assert_eq!(draw_four_steps(&mut load_files(files)), expected);
}

fn copy_small_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("files").flatten() {
        if entry.path().extension().is_none_or(|e| e != "safetensors") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}
