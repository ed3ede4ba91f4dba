//! A transformer as wide as FLUX.1-dev with few blocks: one velocity, and how fast it loads. Its random weights lie in bench/work/flux_step,
//! where the reference puts them when it starts, after this side: so they are loaded by the first repetition.

use std::error::Error;

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::weights::{Checkpoint, TensorSource, Weights};

use super::{Run, repository};

/// Tokens a side and of text in a first velocity that only shows that every weight is ready.
const FIRST: (usize, usize) = (2, 8);

/// A velocity of the transformer in `variant`, a precision, for a picture of `side` × `side` tokens.
pub fn open(side: usize, variant: &str) -> Result<Run, Box<dyn Error>> {
    let precision = precision(variant)?;
    let mut loaded = None;
    Ok(Box::new(move |_| {
        let (transformer, inputs) = match loaded.take() {
            Some(loaded) => loaded,
            None => (load(precision)?, inputs()?),
        };
        let input = |name: &str| inputs.load(name, DType::F32, &Device::Cpu);
        let conditioning = Conditioning { txt: input("txt")?, pooled: input("pooled")? };
        let velocity = velocity(&transformer, &latents(&inputs, side)?, &conditioning, side)?;
        loaded = Some((transformer, inputs));
        Ok(velocity)
    }))
}

/// From files to a first velocity.
pub fn open_load(variant: &str) -> Result<Run, Box<dyn Error>> {
    let precision = precision(variant)?;
    Ok(Box::new(move |_| {
        let (side, text) = FIRST;
        let (transformer, inputs) = (load(precision)?, inputs()?);
        let input = |name: &str| inputs.load(name, DType::F32, &Device::Cpu);
        let txt = input("txt")?.narrow(1, 0, text)?.contiguous()?;
        let conditioning = Conditioning { txt, pooled: input("pooled")? };
        velocity(&transformer, &latents(&inputs, side)?, &conditioning, side)
    }))
}

/// The dtype, and whether the blocks are in int8.
fn precision(variant: &str) -> Result<(DType, bool), Box<dyn Error>> {
    match variant {
        "f32" => Ok((DType::F32, false)),
        "bf16" => Ok((DType::BF16, false)),
        "int8" => Ok((DType::BF16, true)),
        other => Err(format!("there is no variant `{other}`").into()),
    }
}

fn load((dtype, is_int8): (DType, bool)) -> Result<FluxTransformer, Box<dyn Error>> {
    let folder = repository("bench/work/flux_step");
    let weights = Weights::new(Box::new(Checkpoint::open(&folder)?), dtype, &Device::Cpu);
    let weights = if is_int8 { weights.with_int8(FluxTransformer::takes_int8) } else { weights };
    let config = FluxConfig::read(&folder.join("config.json"))?;
    Ok(FluxTransformer::load(&weights, &config, Residency::Resident)?)
}

fn inputs() -> Result<Checkpoint, Box<dyn Error>> {
    let inputs = repository("bench/work/flux_step/inputs.st");
    Ok(Checkpoint::from_files(&inputs, std::slice::from_ref(&inputs))?)
}

/// As many of the 32 × 32 tokens of noise as `side` × `side` need, or all of them several times. (1, side², 64)
fn latents(inputs: &Checkpoint, side: usize) -> Result<Tensor, Box<dyn Error>> {
    let latents = inputs.load("latents", DType::F32, &Device::Cpu)?;
    let times = (side * side).div_ceil(latents.dim(1)?);
    Ok(latents.repeat((1, times, 1))?.narrow(1, 0, side * side)?.contiguous()?)
}

fn velocity(
    transformer: &FluxTransformer,
    latents: &Tensor,
    conditioning: &Conditioning,
    side: usize,
) -> Result<Vec<f32>, Box<dyn Error>> {
    let prepared = transformer.prepare(conditioning, (side, side), &[3.5])?;
    let velocity = transformer.forward(latents, &[1.0], &prepared, &Unobserved)?;
    Ok(velocity.flatten_all()?.to_vec1()?)
}
