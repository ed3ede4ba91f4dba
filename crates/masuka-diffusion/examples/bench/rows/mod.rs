//! What is measured, one file a row.

mod flux_step; // a transformer as wide as FLUX.1-dev: a velocity, and loading
mod starter_picture; // prompt to picture on the starter model
mod t5_encode; // a prompt by an encoder as wide as T5-XXL
mod vae_decode; // latents to pixels by FLUX.1's autoencoder

use std::error::Error;
use std::path::PathBuf;

/// Computes repetition *n* and gives what it computed.
pub type Run = Box<dyn FnMut(usize) -> Result<Vec<f32>, Box<dyn Error>>>;

/// Loads `row` in `variant`.
pub fn open(row: &str, variant: &str) -> Result<Run, Box<dyn Error>> {
    match row {
        "flux_step_256" => flux_step::open(16, variant),
        "flux_step_512" => flux_step::open(32, variant),
        "flux_step_1024" => flux_step::open(64, variant),
        "flux_load" => flux_step::open_load(variant),
        "t5_encode" => t5_encode::open(variant),
        "starter_picture" => starter_picture::open(variant),
        "vae_decode_512" => vae_decode::open(512, variant),
        "vae_decode_1024" => vae_decode::open(1024, variant),
        _ => Err(format!("there is no row `{row}`").into()),
    }
}

/// A path within the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
