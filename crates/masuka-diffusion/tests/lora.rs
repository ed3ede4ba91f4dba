//! LoRA beside the weights, against diffusers with PEFT on the starter model in f32.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::starter::{draw, largest_difference, load};
use masuka_diffusion::Error;
use masuka_diffusion::adapters::{ChosenAdapter, LoraAdapter, TensorCounts};
use masuka_diffusion::noise::Seed;
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, Offload, PictureSize, Precision, SamplerName,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    adapters: BTreeMap<String, f64>,
    prompt: String,
    seed: u64,
    height: usize,
    width: usize,
    steps: usize,
    guidance: f64,
}

impl Case {
    fn all() -> Vec<Self> {
        common::json("fixtures/lora/cases.json")
    }

    fn request(&self) -> GenerateRequest {
        GenerateRequest {
            prompt: self.prompt.clone(),
            guidance: Guidance { embedded: self.guidance, negative: None },
            steps: self.steps,
            sampler: SamplerName::Euler,
            size: PictureSize { width: self.width, height: self.height },
            seed: Seed::new(self.seed).expect("a seed"),
            num_images: 1,
        }
    }

    fn chosen(&self) -> Vec<ChosenAdapter> {
        self.adapters.iter().map(|(name, weight)| choose(name, *weight)).collect()
    }

    fn expected(&self) -> Vec<f32> {
        let path = format!("fixtures/lora/io_{}.safetensors", self.name);
        let image = common::tensors(&path)["image"].flatten_all().expect("pixels");
        image.to_vec1().expect("floats")
    }
}

fn choose(name: &str, weight: f64) -> ChosenAdapter {
    let path = common::repo(&format!("fixtures/lora/{name}.safetensors"));
    let adapter = Arc::new(LoraAdapter::open(&path).expect("the fixture opens"));
    ChosenAdapter { adapter, weight, allow_partial: false }
}

#[test]
fn pictures_with_adapters_equal_diffusers() {
    let mut pipeline = load(Precision::F32, Offload::None);
    for case in Case::all() {
        pipeline.set_adapters(case.chosen()).expect("the adapters fit");
        let difference =
            largest_difference(&draw(&mut pipeline, &case.request()), &case.expected());
        println!("{}: {difference:.1e}", case.name);
        assert!(difference <= 1e-3, "{} differs by {difference}", case.name);
    }
}

#[test]
fn the_base_is_the_same_to_the_bit_after_adapters_were_on_and_off() {
    let mut pipeline = load(Precision::F32, Offload::None);
    let case = &Case::all()[0];
    let request = GenerateRequest { steps: 2, ..case.request() };
    let before = draw(&mut pipeline, &request);
    let adapters = ["attention", "all_linear", "with_text_encoder"].map(|name| choose(name, 1.0));
    for round in 0..100 {
        let choice = ChosenAdapter { weight: 0.01 * round as f64, ..adapters[round % 3].clone() };
        pipeline.set_adapters(vec![choice]).expect("the adapter fits");
    }
    pipeline.set_adapters(vec![adapters[1].clone()]).expect("the adapter fits");
    assert_ne!(draw(&mut pipeline, &request), before);
    pipeline.set_adapters(Vec::new()).expect("no adapter");
    assert_eq!(draw(&mut pipeline, &request), before);
}

/// Every machine has a slow moment, so the fastest of many counts.
#[test]
fn switching_takes_less_than_five_milliseconds_and_no_memory() {
    let mut pipeline = load(Precision::Bf16, Offload::None);
    let adapters = ["attention", "all_linear", "with_text_encoder"].map(|name| choose(name, 1.0));
    let mut switch = |round: usize| {
        let start = Instant::now();
        pipeline.set_adapters(vec![adapters[round % 3].clone()]).expect("the adapter fits");
        start.elapsed()
    };
    for round in 0..6 {
        switch(round);
    }
    let before = resident_kib();
    let fastest = (0..300).map(switch).min().expect("some");
    println!("fastest switch {fastest:?}, memory {before:?} → {:?} KiB", resident_kib());
    assert!(fastest < Duration::from_millis(5), "{fastest:?}");
    if let (Some(before), Some(after)) = (before, resident_kib()) {
        assert!(after < before + 4096, "{before} KiB became {after}");
    }
}

/// Resident memory, where the system tells it.
fn resident_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with("VmRSS"))?.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn adapters_work_with_components_in_turn_and_streamed_blocks() {
    let case = Case::all().into_iter().find(|case| case.name == "with_text_encoder_1.0");
    let case = case.expect("the case");
    for offload in [Offload::Components, Offload::Blocks] {
        let mut pipeline = load(Precision::F32, offload);
        pipeline.set_adapters(case.chosen()).expect("the adapter fits");
        let difference =
            largest_difference(&draw(&mut pipeline, &case.request()), &case.expected());
        assert!(difference <= 1e-3, "{offload} differs by {difference}");
    }
}

#[test]
fn every_tensor_of_a_file_is_counted() {
    let mut pipeline = load(Precision::F32, Offload::None);
    let tensors = |name: &str| common::tensors(&format!("fixtures/lora/{name}.safetensors")).len();
    for name in ["attention", "all_linear", "with_text_encoder"] {
        let counts = pipeline.set_adapters(vec![choose(name, 1.0)]).expect("the adapter fits");
        let expected = TensorCounts { applied: tensors(name), ..TensorCounts::default() };
        assert_eq!(counts, [expected], "{name}");
    }
}

/// `attention.safetensors` with its tensors changed by `edit`.
fn edited(
    edit: impl Fn(&mut std::collections::HashMap<String, candle_core::Tensor>),
) -> tempfile::NamedTempFile {
    let mut tensors = common::tensors("fixtures/lora/attention.safetensors");
    edit(&mut tensors);
    let file = tempfile::NamedTempFile::new().expect("a file");
    candle_core::safetensors::save(&tensors, file.path()).expect("it is written");
    file
}

fn refusal(file: &tempfile::NamedTempFile, allow_partial: bool) -> Result<TensorCounts, Error> {
    let adapter = Arc::new(LoraAdapter::open(file.path())?);
    let mut pipeline = load(Precision::F32, Offload::None);
    let counts =
        pipeline.set_adapters(vec![ChosenAdapter { adapter, weight: 1.0, allow_partial }])?;
    Ok(counts[0])
}

#[test]
fn unknown_tensors_are_an_error_unless_allowed() {
    let file = edited(|tensors| {
        let some = tensors.values().next().expect("a tensor").clone();
        tensors.insert("lora_unheard_of.weight".to_owned(), some);
    });
    let message = refusal(&file, false).expect_err("a refusal").to_string();
    assert!(message.contains("`lora_unheard_of.weight`"), "{message}");
    let counts = refusal(&file, true).expect("the rest is used");
    assert_eq!(counts.unknown, 1);
    assert!(counts.applied > 0);
}

#[test]
fn an_adapter_of_another_base_model_is_refused_by_name_and_sizes() {
    let file = edited(|tensors| {
        for (name, tensor) in tensors.iter_mut() {
            if name.ends_with("lora_A.weight") {
                let halves = [tensor.clone(), tensor.clone()];
                *tensor = candle_core::Tensor::cat(&halves, 1).expect("twice as wide");
            }
        }
    });
    let message = refusal(&file, false).expect_err("a refusal").to_string();
    let told = "to_k.lora_A.weight` has shape [4, 384] where [4, 192] would fit";
    assert!(message.contains(told), "{message}");
}

#[test]
fn half_a_pair_is_refused_by_name() {
    let file = edited(|tensors| {
        let name = "transformer.transformer_blocks.0.attn.to_q.lora_B.weight";
        tensors.remove(name).expect("the fixture has it");
    });
    let message = refusal(&file, true).expect_err("a refusal").to_string();
    assert!(
        message.contains("up (lora_B) projection of `transformer.transformer_blocks.0.attn.to_q`"),
        "{message}"
    );
}

#[test]
fn weights_outside_of_two_are_refused() {
    let mut pipeline = load(Precision::F32, Offload::None);
    let error = pipeline.set_adapters(vec![choose("attention", 2.5)]).expect_err("a refusal");
    assert_eq!(error.to_string(), "lora_weight 2.5 is not within -2 and 2");
}
