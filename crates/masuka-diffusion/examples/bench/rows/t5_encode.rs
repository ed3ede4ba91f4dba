//! A prompt of 512 tokens through four layers of an encoder as wide as T5-XXL. Its random weights lie in
//! bench/work/t5_encode, where the reference puts them when it starts, after this side: so they are loaded by the first
//! repetition.

use std::error::Error;

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::text_encoders::{T5Config, T5Encoder};
use masuka_diffusion::weights::{Checkpoint, Weights};

use super::{Run, repository};

const TOKENS: u32 = 512;

/// The encoder in `variant`, a precision.
pub fn open(variant: &str) -> Result<Run, Box<dyn Error>> {
    let dtype = match variant {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        other => return Err(format!("there is no variant `{other}`").into()),
    };
    let folder = repository("bench/work/t5_encode");
    let ids: Vec<u32> = (0..TOKENS).map(|i| i * 7 % TOKENS).collect();
    let ids = Tensor::from_vec(ids, (1, TOKENS as usize), &Device::Cpu)?;
    let mut loaded = None;
    Ok(Box::new(move |_| {
        let encoder = match loaded.take() {
            Some(encoder) => encoder,
            None => {
                let weights =
                    Weights::new(Box::new(Checkpoint::open(&folder)?), dtype, &Device::Cpu);
                T5Encoder::load(&weights, &T5Config::read(&folder.join("config.json"))?)?
            }
        };
        let encoded = encoder.forward(&ids, &Unobserved)?;
        loaded = Some(encoder);
        Ok(encoded.flatten_all()?.to_vec1()?)
    }))
}
