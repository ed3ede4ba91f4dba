//! Latents to a picture by an autoencoder of FLUX.1's sizes. Its random weights lie in bench/work/vae, where the
//! reference puts them when it starts, after this side: so they are loaded by the first repetition.

use std::error::Error;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::vaes::{AutoencoderKl, AutoencoderKlConfig, Tiling};
use masuka_diffusion::weights::{Checkpoint, TensorSource, Weights};

use super::{Run, repository};

/// The decoder for `size` × `size` pixels in `variant`, a precision.
pub fn open(size: usize, variant: &str) -> Result<Run, Box<dyn Error>> {
    let dtype = match variant {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        other => return Err(format!("there is no variant `{other}`").into()),
    };
    let mut loaded = None;
    Ok(Box::new(move |_| {
        let (vae, latents) = match loaded.take() {
            Some(loaded) => loaded,
            None => load(&repository("bench/work/vae"), size, dtype)?,
        };
        let picture = vae.decode(&latents, Tiling::Whole, &Unobserved)?;
        loaded = Some((vae, latents));
        Ok(picture.flatten_all()?.to_vec1()?)
    }))
}

fn load(
    folder: &Path,
    size: usize,
    dtype: DType,
) -> Result<(AutoencoderKl, Tensor), Box<dyn Error>> {
    let open = |name: &str| {
        let file = folder.join(name);
        Checkpoint::from_files(&file, std::slice::from_ref(&file))
    };
    let config = AutoencoderKlConfig::read(&folder.join("config.json"))?;
    let source = open("diffusion_pytorch_model.safetensors")?;
    let vae = AutoencoderKl::load(&Weights::new(Box::new(source), dtype, &Device::Cpu), &config)?;
    let latents = open(&format!("latents_{size}.safetensors"))?;
    Ok((vae, latents.load("latents", DType::F32, &Device::Cpu)?))
}
