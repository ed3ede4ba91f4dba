//! GGUF files, against what gguf-py reads out of them and what diffusers and transformers compute with that.

mod common;

use candle_core::{DType, Device};
use common::checkpoints::{config, part, weights};
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::text_encoders::{T5Config, T5Encoder};
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::weights::{Checkpoint, FromShapes, Part, TensorSource};

/// Every type of block gives the numbers that gguf-py gives.
#[track_caller]
fn check_tensors(model: &str, types: usize) {
    let source = Checkpoint::open(&common::repo(&format!("fixtures/gguf/{model}/{model}.gguf")))
        .expect("the file");
    let io = common::tensors(&format!("fixtures/gguf/{model}/expected.safetensors"));
    let tensors: Vec<_> = io
        .iter()
        .filter_map(|(key, tensor)| Some((key.strip_prefix("tensor.")?, tensor)))
        .collect();
    assert_eq!(tensors.len(), types);
    for (name, expected) in tensors {
        let found = source.load(name, DType::F32, &Device::Cpu).expect("a tensor");
        let error = common::relative_error(&found, expected);
        assert!(error <= 1e-6, "{name}: {error:e}");
    }
}

#[test]
fn a_transformer_has_the_numbers_of_gguf_py() {
    check_tensors("flux", 13);
}

#[test]
fn a_t5_has_the_numbers_of_gguf_py() {
    check_tensors("t5", 8);
}

#[test]
fn a_quantised_transformer_gives_diffusers_velocity() {
    let checkpoint = part(&common::repo("fixtures/gguf/flux/flux.gguf"), Part::Transformer);
    let expected: FluxConfig = common::json("fixtures/gguf/flux/config.json");
    assert!(config::<FluxConfig>(&checkpoint).fits(&expected));
    let io = common::tensors("fixtures/gguf/flux/expected.safetensors");
    let weights = weights(checkpoint, DType::F32);
    let model = FluxTransformer::load(&weights, &expected, Residency::Resident).expect("it loads");
    common::assert_close(&common::flux::velocity(&model, &io), &io["velocity"], 1e-4);
}

#[test]
fn a_quantised_t5_gives_transformers_states() {
    let checkpoint = part(&common::repo("fixtures/gguf/t5/t5.gguf"), Part::TextEncoder2);
    let path = common::repo("fixtures/gguf/t5/config.json");
    let expected = T5Config::read(&path).expect("a configuration");
    assert!(config::<T5Config>(&checkpoint).fits(&expected));
    let io = common::tensors("fixtures/gguf/t5/expected.safetensors");
    let weights = weights(checkpoint, DType::F32);
    let model = T5Encoder::load(&weights, &expected).expect("it loads");
    weights.finish().expect("no tensor is left over");
    let ids = io["input_ids"].to_dtype(DType::U32).expect("ids");
    let states = model.forward(&ids, &Unobserved).expect("states");
    common::assert_close(&states, &io["last_hidden_state"], 1e-4);
}

#[test]
fn matrices_stay_quantised_in_memory() {
    let checkpoint = part(&common::repo("fixtures/gguf/flux/flux.gguf"), Part::Transformer);
    let bytes = |name: &str| checkpoint.resident_bytes(name, DType::BF16);
    // Q8_0: 34 bytes for 32 numbers.
    assert_eq!(bytes("transformer_blocks.0.attn.to_q.weight"), 64 * 64 / 32 * 34);
    // Q4_0: 18 bytes for 32 numbers.
    assert_eq!(bytes("transformer_blocks.1.attn.to_q.weight"), 64 * 64 / 32 * 18);
    // F16 and norms: as the precision says.
    assert_eq!(bytes("norm_out.linear.weight"), 128 * 64 * 2);
    assert_eq!(bytes("transformer_blocks.0.attn.norm_q.weight"), 32 * 2);
    let expanded = checkpoint.transient_bytes("transformer_blocks.0.attn.to_q.weight", DType::BF16);
    assert_eq!(expanded, 64 * 64 * (4 + 2));
    assert_eq!(checkpoint.transient_bytes("norm_out.linear.weight", DType::BF16), 0);
}
