//! One velocity of a transformer as wide as FLUX.1-dev with few blocks. Its random weights lie in bench/work/flux_step,
//! where the reference puts them when it starts, after this side: so they are loaded by the first repetition.

use std::error::Error;

use candle_core::{DType, Device};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::layers::Residency;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::transformers::flux::{FluxConfig, FluxTransformer};
use masuka_diffusion::weights::{Checkpoint, TensorSource, Weights};

use super::{Run, repository};

/// Image tokens a side.
const SIDE: usize = 32;

/// The transformer in `variant`, a precision.
pub fn open(variant: &str) -> Result<Run, Box<dyn Error>> {
    let (dtype, is_int8) = match variant {
        "f32" => (DType::F32, false),
        "bf16" => (DType::BF16, false),
        "int8" => (DType::BF16, true),
        other => return Err(format!("there is no variant `{other}`").into()),
    };
    let folder = repository("bench/work/flux_step");
    let mut loaded = None;
    Ok(Box::new(move |_| {
        let (transformer, inputs) = match loaded.take() {
            Some(loaded) => loaded,
            None => {
                let source = Box::new(Checkpoint::open(&folder)?);
                let weights = Weights::new(source, dtype, &Device::Cpu);
                let weights =
                    if is_int8 { weights.with_int8(FluxTransformer::takes_int8) } else { weights };
                let config = FluxConfig::read(&folder.join("config.json"))?;
                let inputs = folder.join("inputs.st");
                let inputs = Checkpoint::from_files(&inputs, std::slice::from_ref(&inputs))?;
                (FluxTransformer::load(&weights, &config, Residency::Resident)?, inputs)
            }
        };
        let input = |name: &str| inputs.load(name, DType::F32, &Device::Cpu);
        let conditioning = Conditioning { txt: input("txt")?, pooled: input("pooled")? };
        let prepared = transformer.prepare(&conditioning, (SIDE, SIDE), &[3.5])?;
        let velocity = transformer.forward(&input("latents")?, &[1.0], &prepared, &Unobserved)?;
        loaded = Some((transformer, inputs));
        Ok(velocity.flatten_all()?.to_vec1()?)
    }))
}
