//! The transformer's fixtures.

use std::collections::HashMap;

use candle_core::Tensor;
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::transformers::flux::FluxTransformer;

/// The model's velocity for the inputs of a fixture.
pub fn velocity(model: &FluxTransformer, io: &HashMap<String, Tensor>) -> Tensor {
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
    let prepared = model.prepare(&conditioning, grid, &guidance).expect("inputs that fit");
    let sigmas = numbers("timestep").expect("timesteps");
    model.forward(&io["hidden_states"], &sigmas, &prepared, &Unobserved).expect("a velocity")
}
