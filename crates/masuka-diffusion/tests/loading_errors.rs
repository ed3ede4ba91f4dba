//! Files that cannot be used are refused with the file, the tensor, what was expected and what to do.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use common::checkpoints::{part, weights, write};
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{LoadOptions, Offload, Precision};
use masuka_diffusion::transformers::flux::FluxTransformer;
use masuka_diffusion::weights::{Checkpoint, Contents, Part};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::BF16, &Device::Cpu).expect("zeros")
}

#[track_caller]
fn assert_says<T>(result: masuka_diffusion::Result<T>, parts: &[&str]) {
    let message = result.err().expect("a refusal").to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

/// A file of these bytes is refused with its name and `parts`.
#[track_caller]
fn check_bytes(bytes: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("odd.safetensors");
    std::fs::write(&path, bytes).expect("a file");
    let result = Checkpoint::open(&path);
    assert_says(result, &[&["odd.safetensors"], parts].concat());
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [length.as_slice(), header.as_bytes(), data].concat()
}

#[test]
fn damaged_files_are_refused() {
    check_bytes(b"", &["is empty"]);
    check_bytes(b"abc", &["has 3 bytes"]);
    check_bytes(b"hello, this is a text", &["no safetensors file"]);
    check_bytes(&1_000u64.to_le_bytes(), &["header would take 1000 bytes, the file has 8"]);
    let header = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    assert!(!safetensors(header, &[0; 16]).is_empty());
    check_bytes(&safetensors(header, &[0; 15]), &["cut off"]);
    check_bytes(&safetensors(header, &[0; 17]), &["padded"]);
    check_bytes(&safetensors("{not JSON", &[]), &["no valid safetensors file"]);
    check_bytes(b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", &["no valid GGUF file"]);
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let header = format!(r#"{{"a.weight":{entry},"a.weight":{entry}}}"#);
    check_bytes(&safetensors(&header, &[0; 4]), &["`a.weight` twice"]);
}

#[test]
fn archives_that_may_run_code_are_refused() {
    check_bytes(b"PK\x03\x04 an archive of pickles", &["convert it to safetensors"]);
    check_bytes(b"\x80\x02}q\x00. a bare pickle", &["convert it to safetensors"]);
}

#[test]
fn a_gguf_that_was_cut_off_is_refused() {
    let bytes = std::fs::read(common::repo("fixtures/gguf/t5/t5.gguf")).expect("the fixture");
    check_bytes(&bytes[..bytes.len() - 100], &["cut off", "enc."]);
    check_bytes(&bytes[..200], &["no valid GGUF file"]);
}

#[test]
fn a_gguf_without_an_alignment_is_refused() {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let header = [&b"GGUF\x03\0\0\0"[..], &0_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let value = [&4_u32.to_le_bytes()[..], &0_u32.to_le_bytes()].concat();
    let bytes = [header, text("general.alignment"), value, vec![0; 64]].concat();
    check_bytes(&bytes, &["aligns its tensors to 0 bytes"]);
}

/// The `dev` transformer in Black Forest Labs' names with a change.
fn load_changed(
    change: impl Fn(&mut HashMap<String, Tensor>),
) -> masuka_diffusion::Result<FluxTransformer> {
    let mut tensors = common::tensors("fixtures/single_file/flux_f32.safetensors");
    change(&mut tensors);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flux.safetensors");
    write(&path, &tensors);
    let config = common::json("fixtures/transformer/dev/config.json");
    FluxTransformer::load(
        &weights(part(&path, Part::Transformer), DType::F32),
        &config,
        Residency::Resident,
    )
}

#[test]
fn a_tensor_is_named_as_its_file_spells_it() {
    let qkv = "double_blocks.1.txt_attn.qkv.weight";
    let norm = "single_blocks.0.norm.query_norm.scale";
    for name in [qkv, norm, "final_layer.adaLN_modulation.1.bias"] {
        let missing = load_changed(|tensors| drop(tensors.remove(name)));
        assert_says(missing, &[&format!("tensor `{name}` is missing from"), "flux.safetensors"]);
    }
    let short = load_changed(|tensors| drop(tensors.insert(qkv.to_owned(), zeros(&[144, 40]))));
    assert_says(short, &[qkv, "[144, 40], expected [144, 48]", "flux.safetensors"]);
    let extra = load_changed(|tensors| {
        drop(tensors.insert("double_blocks.0.odd.weight".to_owned(), zeros(&[2])));
    });
    assert_says(extra, &["1 tensors in", "`double_blocks.0.odd.weight`", "flux.safetensors"]);
}

#[test]
fn a_tensor_outside_of_the_parts_of_a_file_is_refused() {
    let tensors = common::tensors("fixtures/single_file/flux_f32.safetensors");
    let prefixed =
        tensors.into_iter().map(|(name, t)| (format!("model.diffusion_model.{name}"), t));
    let mut tensors: HashMap<_, _> = prefixed.collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.safetensors");
    let open = |tensors: &HashMap<String, Tensor>| {
        write(&path, tensors);
        let base = Some(common::repo("models/starter"));
        let files = FluxFiles { model: path.clone(), base, ..FluxFiles::default() };
        let (device, precision) = (Device::Cpu, Precision::F32);
        let options =
            LoadOptions { device, precision, offload: Offload::Blocks, available_bytes: None };
        FluxPipeline::load(files, &options, &Unobserved)
    };
    tensors.insert("model_ema.decay".to_owned(), zeros(&[1]));
    // Not a word of the tensors that are known to be of no use; this base's widths are others.
    assert_says(open(&tensors), &["belong to different models"]);
    tensors.insert("control.adapter.weight".to_owned(), zeros(&[2]));
    assert_says(
        open(&tensors),
        &["all.safetensors", "1 tensors that belong to none", "`control.adapter.weight`"],
    );
}

/// What a file with these tensors is taken for.
#[track_caller]
fn check_kind(names: &[&str], expected: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.safetensors");
    write(&path, &names.iter().map(|name| ((*name).to_owned(), zeros(&[1]))).collect());
    let contents = Contents::of(&Checkpoint::open(&path).expect("a file"));
    assert_eq!(contents.describe(), expected, "{names:?}");
}

#[test]
fn a_checkpoint_is_known_by_its_tensors() {
    check_kind(&["double_blocks.0.img_attn.qkv.weight", "img_in.weight"], "a FLUX.1 transformer");
    check_kind(
        &["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"],
        "a FLUX.1 transformer",
    );
    check_kind(&["transformer_blocks.0.attn.add_q_proj.weight"], "a FLUX.1 transformer");
    check_kind(&["decoder.up.0.block.0.conv1.weight"], "an autoencoder");
    check_kind(&["text_model.encoder.layers.0.self_attn.q_proj.weight"], "a CLIP text encoder");
    check_kind(&["encoder.block.0.layer.0.SelfAttention.q.weight"], "a T5 text encoder");
    check_kind(&["enc.blk.0.attn_q.weight"], "a T5 text encoder");
    let others = [
        ("model.diffusion_model.input_blocks.0.0.weight", "a Stable Diffusion 1 or 2 checkpoint"),
        ("conditioner.embedders.1.model.ln_final.weight", "a Stable Diffusion XL checkpoint"),
        ("blocks.0.cross_attn.norm_k.weight", "a Wan transformer"),
        (
            "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
            "a Stable Diffusion 3 transformer",
        ),
        ("double_stream_modulation_img.lin.weight", "a FLUX.2 transformer"),
        ("transformer.x_embedder.lora_A.weight", "a LoRA, which is given with `--lora`"),
        ("something.else", "nothing that is known here"),
    ];
    for (name, expected) in others {
        check_kind(
            &[name, "double_blocks.0.img_attn.qkv.weight"]
                [..1 + usize::from(name.contains("stream"))],
            expected,
        );
    }
}

fn open(files: FluxFiles) -> masuka_diffusion::Result<FluxPipeline> {
    let (precision, offload) = (Precision::F32, Offload::Components);
    let options = LoadOptions { device: Device::Cpu, precision, offload, available_bytes: None };
    FluxPipeline::load(files, &options, &Unobserved)
}

/// The starter without some of its folders.
fn starter_without(folders: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(common::repo("models/starter")).expect("the starter").flatten() {
        if !folders.contains(&entry.file_name().to_str().expect("a name")) {
            let from = entry.path().canonicalize().expect("a path");
            std::os::unix::fs::symlink(from, root.path().join(entry.file_name())).expect("a link");
        }
    }
    root
}

#[test]
fn a_missing_part_is_named_with_its_option() {
    let parts = [
        ("vae", "--vae"),
        ("text_encoder", "--text-encoder"),
        ("text_encoder_2", "--text-encoder-2"),
        ("tokenizer", "--tokenizer"),
        ("tokenizer_2", "--tokenizer-2"),
    ];
    for (folder, option) in parts {
        let root = starter_without(&[folder]);
        let flag = format!("`{option}`");
        assert_says(open(FluxFiles::folder(root.path())), &[&flag, "--base"]);
        let base = Some(common::repo("models/starter"));
        open(FluxFiles { model: root.path().to_owned(), base, ..FluxFiles::default() })
            .expect(folder);
    }
    let root = starter_without(&["transformer"]);
    assert_says(open(FluxFiles::folder(root.path())), &["FLUX.1 transformer", "`--model`"]);
}

#[test]
fn a_single_file_says_what_else_it_needs() {
    let model = common::repo("fixtures/single_file/flux_f32.safetensors");
    assert_says(
        open(FluxFiles::folder(&model)),
        &["flux_f32.safetensors", "autoencoder", "`--vae`"],
    );
    let ae = common::repo("fixtures/single_file/ae_f32.safetensors");
    assert_says(
        open(FluxFiles::folder(&ae)),
        &["ae_f32.safetensors", "holds an autoencoder", "a FLUX.1 transformer is wanted"],
    );
    let (model, vae) = (model.clone(), Some(model));
    assert_says(
        open(FluxFiles { model, vae, ..FluxFiles::default() }),
        &["holds a FLUX.1 transformer", "`--vae`"],
    );
}

#[test]
fn parts_of_different_models_are_refused() {
    let model = common::repo("models/starter");
    let vae = Some(common::repo("fixtures/vae/three_levels"));
    assert_says(open(FluxFiles { model, vae, ..FluxFiles::default() }), &["in_channels", "64"]);
    let model = common::repo("models/starter");
    let text_encoder = Some(common::repo("fixtures/clip/eos_2"));
    let files = FluxFiles { model, text_encoder, ..FluxFiles::default() };
    assert_says(open(files), &["CLIP", "pooled_projection_dim", "128"]);
}

#[test]
fn a_folder_that_is_no_model_is_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let write_index = |class: &str| {
        let index = format!(r#"{{"_class_name":"{class}"}}"#);
        std::fs::write(root.path().join("model_index.json"), index).expect("a file");
    };
    assert_says(open(FluxFiles::folder(root.path())), &["model_index.json", "transformer/"]);
    let file: PathBuf = root.path().join("flux1-dev.safetensors");
    std::fs::write(&file, b"").expect("a file");
    assert_says(open(FluxFiles::folder(root.path())), &["name it", "flux1-dev.safetensors"]);
    write_index("StableDiffusionXLPipeline");
    assert_says(
        open(FluxFiles::folder(root.path())),
        &["StableDiffusionXLPipeline", "not supported"],
    );
    write_index("FluxPipeline");
    assert_says(open(FluxFiles::folder(root.path())), &["FLUX.1 transformer", "--base"]);
    assert_says(
        open(FluxFiles::folder(Path::new("nowhere.safetensors"))),
        &["nowhere.safetensors"],
    );
}
