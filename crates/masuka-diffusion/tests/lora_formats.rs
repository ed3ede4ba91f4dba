//! Every convention and method of the field against weights with the dense difference added, and against diffusers and
//! PEFT where they read it; and back out again.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::Error;
use masuka_diffusion::adapters::lora_formats::canonical_module;
use masuka_diffusion::adapters::{
    AdapterSlot, BaseLayer, BaseLayers, ChosenAdapter, ExportFormat, Host, LoraAdapter, LoraFormat,
    Method, Target, apply,
};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::text_encoders::{ClipTextEncoder, T5Encoder};
use masuka_diffusion::transformers::flux::FluxTransformer;

const MODEL: &str = "fixtures/transformer/dev";
const TOLERANCE: f32 = 1e-4;

type Slots = BTreeMap<String, Arc<AdapterSlot>>;

fn fixture(name: &str) -> PathBuf {
    common::repo(&format!("fixtures/lora_formats/{name}.safetensors"))
}

fn open(name: &str) -> Arc<LoraAdapter> {
    Arc::new(LoraAdapter::open(&fixture(name)).expect("the fixture opens"))
}

/// The weights of a fixture, for norms.
struct Base(HashMap<String, Tensor>);

impl BaseLayers for Base {
    fn layer(&self, _: Target, name: &str) -> masuka_diffusion::Result<BaseLayer> {
        let bias = self.0.get(&format!("{name}.bias")).cloned();
        Ok(BaseLayer { weight: self.0[&format!("{name}.weight")].clone(), bias })
    }
}

/// Puts `adapter` into `slots` with `weight`.
fn put(adapter: &Arc<LoraAdapter>, weight: f64, slots: &Slots, target: Target, dtype: DType) {
    let base = Base(common::tensors(&format!("{MODEL}/diffusion_pytorch_model.safetensors")));
    let host = Host { dtype, device: &common::device(), name: MODEL, base: &base };
    let choice = ChosenAdapter { adapter: adapter.clone(), weight, allow_partial: false };
    let shape_of = |of: Target, layer: &str| {
        let slot = slots.get(layer).filter(|_| of == target)?;
        Some((slot.out_features(), slot.in_features()))
    };
    let others = adapter.updates().keys().any(|(of, _)| *of != target);
    let counts = ChosenAdapter { allow_partial: others, ..choice.clone() }.check(&shape_of);
    assert!(counts.expect("it fits").applied > 0);
    apply(slots, target, &[choice], &host).expect("it is applied");
}

/// The tiny transformer's velocity with `adapter`.
fn velocity(adapter: &Arc<LoraAdapter>, weight: f64, residency: Residency, dtype: DType) -> Tensor {
    let weights = common::weights(MODEL, dtype);
    let config = common::json(&format!("{MODEL}/config.json"));
    let model = FluxTransformer::load(&weights, &config, residency).expect("the fixture loads");
    put(adapter, weight, model.adapters(), Target::Transformer, dtype);
    let io = common::tensors(&format!("{MODEL}/io_square.safetensors"));
    let numbers = |key: &str| io[key].to_vec1::<f32>().expect("numbers");
    let conditioning = Conditioning {
        txt: io["encoder_hidden_states"].clone(),
        pooled: io["pooled_projections"].clone(),
    };
    let prepared = model.prepare(&conditioning, (4, 4), &numbers("guidance")).expect("a prompt");
    let sigmas = numbers("timestep");
    model.forward(&io["hidden_states"], &sigmas, &prepared, &Unobserved).expect("a velocity")
}

fn expected(key: &str) -> Tensor {
    common::tensors("fixtures/lora_formats/expected.safetensors")[key].clone()
}

/// Checks what `file` is taken for and what it does, against the dense difference and against what diffusers made of it.
#[track_caller]
fn check(file: &str, group: &str, format: LoraFormat, method: Method) {
    let adapter = open(file);
    let report = adapter.report();
    assert_eq!(report.format, format, "{file}");
    assert_eq!(report.methods.keys().collect::<Vec<_>>(), [&method], "{file}");
    let tensors = candle_core::safetensors::load(fixture(file), &Device::Cpu).expect("tensors");
    assert_eq!((report.applied, report.unknown), (tensors.len(), 0), "{file}");
    let actual = velocity(&adapter, 1.0, Residency::Resident, DType::F32);
    let all = common::tensors("fixtures/lora_formats/expected.safetensors");
    common::assert_close(&actual, &all[&format!("velocity.{group}")], TOLERANCE);
    if let Some(theirs) = all.get(&format!("velocity.{group}.{file}")) {
        common::assert_close(&actual, theirs, TOLERANCE);
    }
}

#[test]
fn every_convention_says_the_same() {
    for (file, format) in [
        ("diffusers", LoraFormat::Diffusers),
        ("diffusers_alpha", LoraFormat::Diffusers),
        ("peft/adapter_model", LoraFormat::Peft),
        ("peft_bfl", LoraFormat::Peft),
        ("kohya", LoraFormat::Kohya),
        ("comfyui", LoraFormat::ComfyUi),
        ("comfyui_down", LoraFormat::ComfyUi),
        ("bfl", LoraFormat::Bfl),
        ("onetrainer", LoraFormat::OneTrainer),
        ("onetrainer_bfl", LoraFormat::OneTrainerBfl),
    ] {
        check(file, "all", format, Method::Lora);
    }
    check("xlabs", "attention", LoraFormat::Xlabs, Method::Lora);
}

#[test]
fn embedders_and_the_last_layer_are_found_in_each() {
    check("ends_diffusers", "ends", LoraFormat::Diffusers, Method::Lora);
    check("ends_kohya", "ends", LoraFormat::Kohya, Method::Lora);
    check("ends_comfyui", "ends", LoraFormat::ComfyUi, Method::Lora);
}

#[test]
fn loha_lokr_and_dora_equal_the_dense_difference() {
    check("loha", "loha", LoraFormat::ComfyUi, Method::Loha);
    check("lokr", "lokr", LoraFormat::Lycoris, Method::Lokr);
    check("dora", "dora", LoraFormat::Diffusers, Method::Dora);
    check("dora_columns", "dora_columns", LoraFormat::OneTrainer, Method::Dora);
}

#[test]
fn differences_of_weights_biases_and_norms_are_added() {
    let adapter = open("diff");
    let methods = adapter.report().methods;
    assert_eq!(methods, BTreeMap::from([(Method::Lora, 1), (Method::Diff, 6)]));
    let actual = velocity(&adapter, 1.0, Residency::Resident, DType::F32);
    common::assert_close(&actual, &expected("velocity.diff"), TOLERANCE);
}

#[test]
fn every_method_works_in_bf16_and_with_streamed_blocks() {
    for (file, group) in [("kohya", "all"), ("loha", "loha"), ("lokr", "lokr"), ("dora", "dora")] {
        let (adapter, expected) = (open(file), expected(&format!("velocity.{group}")));
        let streamed = velocity(&adapter, 1.0, Residency::Streamed, DType::F32);
        common::assert_close(&streamed, &expected, TOLERANCE);
        let rounded = velocity(&adapter, 1.0, Residency::Resident, DType::BF16);
        common::assert_close(&rounded, &expected, 0.05);
    }
}

#[test]
fn a_weight_of_zero_is_the_base_model_and_opposite_weights_differ() {
    for file in ["kohya", "loha", "lokr", "dora", "dora_columns", "diff"] {
        let adapter = open(file);
        let at = |weight| velocity(&adapter, weight, Residency::Resident, DType::F32);
        let base = &common::tensors(&format!("{MODEL}/io_square.safetensors"))["velocity"];
        common::assert_close(&at(0.0), base, TOLERANCE);
        assert!(common::relative_error(&at(-1.0), &at(1.0)) > 0.01, "{file}");
    }
}

#[test]
fn text_encoders_are_adapted_in_each_convention() {
    for file in ["text_kohya", "text_comfyui", "text_diffusers"] {
        let adapter = open(file);
        let weights = common::weights("fixtures/clip/eos_2", DType::F32);
        let config = common::json("fixtures/clip/eos_2/config.json");
        let clip = ClipTextEncoder::load(&weights, &config).expect("CLIP loads");
        let canonical = |(name, slot): (String, Arc<AdapterSlot>)| {
            (canonical_module(Target::TextEncoder, &name).to_owned(), slot)
        };
        let slots: Slots =
            weights.finish().expect("all is known").into_iter().map(canonical).collect();
        put(&adapter, 1.0, &slots, Target::TextEncoder, DType::F32);
        let ids = |path: &str, key: &str| common::tensors(path)[key].to_dtype(DType::U32).unwrap();
        let ids_of = ids("fixtures/clip/eos_2/io.safetensors", "input_ids");
        let pooled = clip.forward(&ids_of, &Unobserved).expect("states").pooled;
        common::assert_close(&pooled, &expected("pooled"), TOLERANCE);

        let weights = common::weights("fixtures/t5/narrow", DType::F32);
        let config = common::json("fixtures/t5/narrow/config.json");
        let t5 = T5Encoder::load(&weights, &config).expect("T5 loads");
        put(&adapter, 1.0, &weights.finish().expect("known"), Target::TextEncoder2, DType::F32);
        let ids = ids("fixtures/t5/narrow/io.safetensors", "input_ids_16");
        let states = t5.forward(&ids, &Unobserved).expect("states");
        common::assert_close(&states, &expected("t5"), TOLERANCE);
    }
}

const EXPORTS: [(ExportFormat, &str); 3] = [
    (ExportFormat::Diffusers, "diffusers"),
    (ExportFormat::Kohya, "kohya"),
    (ExportFormat::ComfyUi, "comfyui"),
];

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let bits = |t: &Tensor| {
        let numbers = t.to_dtype(DType::F32).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
        numbers.expect("numbers").into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    a.dims() == b.dims() && a.dtype() == b.dtype() && bits(a) == bits(b)
}

fn exported(adapter: &LoraAdapter, format: ExportFormat, folder: &Path) -> LoraAdapter {
    let path = folder.join(format!("{format:?}.safetensors"));
    adapter.export(format).expect("it is LoRA").save(&path).expect("it is written");
    LoraAdapter::open(&path).expect("it is read again")
}

#[test]
fn ours_comes_back_from_every_export_to_the_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["export", "diffusers", "ends_diffusers", "text_diffusers"] {
        let ours = open(file);
        for (format, _) in EXPORTS {
            let back = exported(&ours, format, folder.path());
            assert_eq!(back.updates().len(), ours.updates().len(), "{file} by {format:?}");
            for (key, update) in ours.updates() {
                let again = &back.updates()[key];
                let factors = |u: &masuka_diffusion::adapters::LoraUpdate| {
                    let (up, down) = u.delta.as_ref().expect("a delta").low_rank().expect("LoRA");
                    (up.clone(), down.clone())
                };
                let ((up, down), (up_2, down_2)) = (factors(update), factors(again));
                assert!(same_bits(&up, &up_2) && same_bits(&down, &down_2), "{key:?} {format:?}");
                assert_eq!(update.scaling, again.scaling, "{key:?} by {format:?}");
            }
        }
    }
}

#[test]
fn theirs_is_the_same_difference_after_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ("kohya", ExportFormat::Kohya),
        ("comfyui", ExportFormat::ComfyUi),
        ("ends_kohya", ExportFormat::Kohya),
        ("xlabs", ExportFormat::ComfyUi),
    ];
    for (file, format) in cases {
        let theirs = open(file);
        let ours = exported(&theirs, ExportFormat::Diffusers, folder.path());
        let back = exported(&ours, format, folder.path());
        for (key, update) in theirs.updates() {
            let dense = |u: &masuka_diffusion::adapters::LoraUpdate| u.dense().unwrap().unwrap();
            assert!(same_bits(&dense(update), &dense(&back.updates()[key])), "{file} {key:?}");
        }
    }
}

#[test]
fn what_is_more_than_lora_is_not_exported() {
    for file in ["loha", "lokr", "dora"] {
        for (format, _) in EXPORTS {
            let message = open(file).export(format).expect_err(file).to_string();
            assert!(message.contains("by more than LoRA, which cannot be exported"), "{message}");
        }
    }
}

/// The recipe lets diffusers read these files and keeps what it made of them.
#[test]
fn exports_are_the_files_that_diffusers_has_read() {
    let ours = open("export");
    for (format, name) in EXPORTS {
        let file = format!("exported/{name}");
        let read = candle_core::safetensors::load(fixture(&file), &Device::Cpu).expect("tensors");
        let written = ours.export(format).expect("it is LoRA").tensors;
        assert_eq!(written.len(), read.len(), "{name}");
        assert!(written.iter().all(|(key, tensor)| same_bits(tensor, &read[key])), "{name}");
        check(&file, "export", open(&file).format(), Method::Lora);
        let theirs = expected(&format!("velocity.export.{file}"));
        common::assert_close(&theirs, &expected("velocity.export"), 1e-5);
    }
}

#[test]
#[ignore = "writes fixtures; see fixtures/lora_formats/make.py"]
fn write_the_exports() {
    let ours = open("export");
    std::fs::create_dir_all(common::repo("fixtures/lora_formats/exported")).expect("a folder");
    for (format, name) in EXPORTS {
        let path = fixture(&format!("exported/{name}"));
        ours.export(format).expect("it is LoRA").save(&path).expect("it is written");
    }
}

/// `kohya.safetensors` with its tensors changed by `edit`.
fn edited(edit: impl Fn(&mut HashMap<String, Tensor>)) -> Result<LoraAdapter, Error> {
    let mut tensors = common::tensors("fixtures/lora_formats/kohya.safetensors");
    edit(&mut tensors);
    let file = tempfile::NamedTempFile::new().expect("a file");
    candle_core::safetensors::save(&tensors, file.path()).expect("it is written");
    LoraAdapter::open(file.path())
}

const DOWN: &str = "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight";

#[track_caller]
fn refused(edit: impl Fn(&mut HashMap<String, Tensor>), expected: &str) {
    let message = edited(edit).expect_err("a refusal").to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn numbers_that_are_none_are_refused_by_name() {
    for number in [f32::NAN, f32::INFINITY] {
        let poisoned = Tensor::full(number, (4, 48), &Device::Cpu).expect("a tensor");
        let edit = |t: &mut HashMap<String, Tensor>| {
            t.insert(DOWN.to_owned(), poisoned.clone());
        };
        refused(edit, &format!("`{DOWN}` holds numbers that are not finite"));
    }
}

#[test]
fn zeros_are_refused_unless_partial_adapters_are_allowed() {
    let zero = |t: &mut HashMap<String, Tensor>| {
        let up = DOWN.replace("down", "up");
        let zeros = t[&up].zeros_like().expect("zeros");
        t.insert(up, zeros);
    };
    let adapter = Arc::new(edited(zero).expect("the rest is used"));
    assert_eq!(adapter.zero().len(), 3);
    let shape_of = |_: Target, layer: &str| {
        let update = adapter.updates().get(&(Target::Transformer, layer.to_owned()))?;
        update.shape().expect("a shape")
    };
    let choice =
        |allow_partial| ChosenAdapter { adapter: adapter.clone(), weight: 1.0, allow_partial };
    let message = choice(false).check(&shape_of).expect_err("a refusal").to_string();
    assert!(
        message.contains("`lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight`"),
        "{message}"
    );
    assert_eq!(choice(true).check(&shape_of).expect("partial").ignored, 3);

    let all = |t: &mut HashMap<String, Tensor>| {
        t.retain(|name, _| name.starts_with("lora_unet_double_blocks_0_img_attn_qkv"));
        zero(t);
    };
    refused(all, "every update in it is zero");
}

#[test]
fn damaged_and_hostile_files_are_refused() {
    let half = |t: &mut HashMap<String, Tensor>| {
        t.remove(DOWN);
    };
    refused(half, "the down (lora_A) projection of `lora_unet_double_blocks_0_img_attn_qkv`");
    let huge = Tensor::ones((5000, 1), DType::U8, &Device::Cpu).expect("a tensor");
    let huge_rank = |t: &mut HashMap<String, Tensor>| {
        t.insert(DOWN.to_owned(), huge.clone());
    };
    refused(huge_rank, "has rank 5000, more than 4096");
    let other = Tensor::ones((3, 48), DType::F32, &Device::Cpu).expect("a tensor");
    let ranks = |t: &mut HashMap<String, Tensor>| {
        t.insert(DOWN.to_owned(), other.clone());
    };
    refused(ranks, "no pair of one rank");
    let rows = Tensor::ones((100, 4), DType::F32, &Device::Cpu).expect("a tensor");
    let odd_rows = |t: &mut HashMap<String, Tensor>| {
        t.insert(DOWN.replace("down", "up"), rows.clone());
    };
    refused(odd_rows, "has 100 rows, no multiple of 3");
}

#[test]
fn files_that_are_no_adapters_are_refused() {
    let refuse = |bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("it is written");
        let message = LoraAdapter::open(file.path()).expect_err("a refusal").to_string();
        assert!(message.contains("copy it again"), "{message}");
    };
    let whole = std::fs::read(fixture("kohya")).expect("the fixture");
    refuse(&[]);
    refuse(&whole[..100]);
    refuse(&whole[..whole.len() - 1]);
    let mut beyond = whole;
    beyond[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refuse(&beyond);

    let named = |name: &str| {
        let tensors = HashMap::from([(name.to_owned(), Tensor::new(1f32, &Device::Cpu).unwrap())]);
        let file = tempfile::NamedTempFile::new().expect("a file");
        candle_core::safetensors::save(&tensors, file.path()).expect("it is written");
        LoraAdapter::open(file.path()).expect_err("a refusal").to_string()
    };
    let message = named("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight");
    assert!(message.contains("is a LoRA for Stable Diffusion, not for FLUX.1"), "{message}");
    assert!(named("anything").contains("its first is `anything`"));
}

#[test]
fn the_report_tells_format_base_ranks_and_alphas() {
    let report = open("export").report();
    assert_eq!(report.base.to_string(), "FLUX.1, 48 channels wide");
    assert_eq!(report.ranks, BTreeMap::from([(8, 1), (32, 6)]));
    assert_eq!(report.alphas, [4.0, 16.0]);
    assert_eq!(report.targets, BTreeMap::from([("transformer", 7)]));
    let report = open("text_kohya").report();
    assert_eq!(report.targets.keys().collect::<Vec<_>>(), [&"text_encoder", &"text_encoder_2"]);
}
