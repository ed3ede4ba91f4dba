//! The FLUX transformer against diffusers' `FluxTransformer2DModel`.

mod common;

use candle_core::{DType, Tensor};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::{StepObserver, Unobserved};
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::{Error, Result};

const TOLERANCE: f32 = 1e-4;

fn load(model: &str, dtype: DType, residency: Residency) -> FluxTransformer {
    let weights = common::weights(&format!("fixtures/transformer/{model}"), dtype);
    let config = common::json(&format!("fixtures/transformer/{model}/config.json"));
    FluxTransformer::load(&weights, &config, residency).expect("the fixture loads")
}

/// The model's velocity and diffusers' for the inputs of a fixture.
fn velocities(
    model: &FluxTransformer,
    name: &str,
    case: &str,
    observer: &dyn StepObserver,
) -> Result<(Tensor, Tensor)> {
    let io = common::tensors(&format!("fixtures/transformer/{name}/io_{case}.safetensors"));
    let numbers = |key: &str| io.get(key).map(|t| t.to_vec1::<f32>().expect("a vector"));
    let guidance = numbers("guidance").unwrap_or_else(|| vec![0.0]);
    let conditioning = Conditioning {
        txt: io["encoder_hidden_states"].clone(),
        pooled: io["pooled_projections"].clone(),
    };
    // The last image token stands at (0, rows - 1, columns - 1).
    let ids = io["img_ids"].to_vec2::<f32>().expect("positions");
    let last = ids.last().expect("a token");
    let grid = (last[1] as usize + 1, last[2] as usize + 1);
    let prepared = model.prepare(&conditioning, grid, &guidance)?;
    let sigmas = numbers("timestep").expect("timesteps");
    let velocity = model.forward(&io["hidden_states"], &sigmas, &prepared, observer)?;
    Ok((velocity, io["velocity"].clone()))
}

#[track_caller]
fn check(name: &str, case: &str) {
    let model = load(name, DType::F32, Residency::Resident);
    let (velocity, expected) = velocities(&model, name, case, &Unobserved).expect("a velocity");
    common::assert_close(&velocity, &expected, TOLERANCE);
}

#[test]
fn agrees_with_guidance_embedding() {
    for case in ["square", "odd", "batch"] {
        check("dev", case);
    }
}

#[test]
fn agrees_without_guidance_embedding() {
    for case in ["square", "odd", "batch"] {
        check("schnell", case);
    }
}

#[test]
fn agrees_with_other_depths_heads_axes_and_output_channels() {
    for case in ["square", "odd", "batch"] {
        check("other", case);
    }
}

#[test]
fn streamed_blocks_give_the_same_bits() {
    let resident = load("dev", DType::F32, Residency::Resident);
    let streamed = load("dev", DType::F32, Residency::Streamed);
    let (a, _) = velocities(&resident, "dev", "odd", &Unobserved).expect("a velocity");
    let (b, _) = velocities(&streamed, "dev", "odd", &Unobserved).expect("a velocity");
    assert_eq!(common::relative_error(&a, &b), 0.0);
}

#[test]
fn stops_between_blocks_when_cancelled() {
    struct Impatient;
    impl StepObserver for Impatient {
        fn proceed(&self) -> bool {
            false
        }
    }
    let model = load("dev", DType::F32, Residency::Resident);
    let result = velocities(&model, "dev", "square", &Impatient);
    assert!(matches!(result, Err(Error::Cancelled)));
}

#[test]
fn a_wrong_configuration_is_refused_by_name_and_shape() {
    let weights = common::weights("fixtures/transformer/dev", DType::F32);
    let mut config: FluxConfig = common::json("fixtures/transformer/dev/config.json");
    config.pooled_projection_dim = 25;
    let error = FluxTransformer::load(&weights, &config, Residency::Resident).err();
    let message = error.expect("a refusal").to_string();
    assert!(message.contains("time_text_embed.text_embedder.linear_1.weight"), "{message}");
    assert!(message.contains("[48, 24], expected [48, 25]"), "{message}");
}
