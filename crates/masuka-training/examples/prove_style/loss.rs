//! The denoising loss on the held-out pictures: fixed noise, a grid of sigmas, and the guidance of trainers that ask for
//! the undistilled velocity, so that losses of other trainers can be compared.

use std::path::Path;

use candle_core::{Device, Tensor};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::noise::{Generator, Seed};
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::FluxPipeline;
use masuka_diffusion::weights::safetensors_file::SafetensorsFile;
use masuka_training::adapter::{AdapterSize, Targets, TrainedAdapter};
use masuka_training::dataset::{Bucket, CaptionedPicture, Dataset, Pixels};
use masuka_training::gradients::{Batch, Keep, Learner};

use crate::Result;
use crate::drawing::Painter;

const SIGMAS: [f32; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const GUIDANCE: f32 = 1.0;
const BUCKET: Bucket = Bucket { width: 128, height: 128 };
/// Rows and columns of tokens of such a picture.
const GRID: (usize, usize) = (8, 8);

/// The mean loss of the model alone, and with the adapter of `file` at weight 1.
pub fn with_and_without(
    painter: &mut Painter,
    held_out: &Dataset,
    file: &Path,
) -> Result<[f64; 2]> {
    let pipeline = &mut painter.pipeline;
    let tensors = candle_core::safetensors::load(file, &Device::Cpu)?;
    let header = SafetensorsFile::open(file)?;
    let number = |key: &str| -> Result<f64> {
        Ok(header.metadata(key).ok_or_else(|| format!("`{key}` is missing"))?.parse()?)
    };
    let size = AdapterSize { rank: number("rank")? as usize, alpha: number("alpha")? };
    let slots = pipeline.transformer()?.adapters().clone();
    let is_mlp = tensors.keys().any(|name| name.contains(".ff."));
    let targets = if is_mlp { Targets::AllLinear } else { Targets::Attention };
    let adapter = TrainedAdapter::from_tensors(&slots, targets, size, &tensors, &Device::Cpu)?;
    let without = mean(pipeline, held_out, &adapter)?;
    adapter.attach();
    let with = mean(pipeline, held_out, &adapter)?;
    adapter.detach();
    Ok([without, with])
}

fn mean(pipeline: &mut FluxPipeline, held_out: &Dataset, adapter: &TrainedAdapter) -> Result<f64> {
    let mut sum = 0.0;
    for (index, picture) in held_out.pictures.iter().enumerate() {
        let batch = batch(pipeline, picture, Seed::new(1000 + index as u64)?)?;
        let (transformer, keep) = (pipeline.transformer()?, Keep::Inputs);
        let learner = Learner { transformer, adapter, keep, guidance: GUIDANCE, by_graph: false };
        let losses = learner.losses(&batch)?;
        sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64;
    }
    Ok(sum / held_out.pictures.len() as f64)
}

/// One picture at every sigma, under the same noise.
fn batch(pipeline: &mut FluxPipeline, picture: &CaptionedPicture, seed: Seed) -> Result<Batch> {
    let pixels = Pixels::open(&picture.path).map_err(|reason| reason.to_string())?;
    let pixels = pixels.fit(BUCKET, &Device::Cpu)?;
    let latents = repeat(&pipeline.encode_picture(&pixels, &Unobserved)?)?;
    let told = pipeline.conditioning(&picture.caption, &Unobserved)?;
    let noise = Generator::new(seed).randn(latents.elem_count());
    let noise = Tensor::from_vec(noise, latents.shape(), &Device::Cpu)?;
    let conditioning = Conditioning { txt: repeat(&told.txt)?, pooled: repeat(&told.pooled)? };
    let sigmas = SIGMAS.to_vec();
    Ok(Batch { latents, noise, target: None, sigmas, conditioning, grid: GRID })
}

fn repeat(tensor: &Tensor) -> Result<Tensor> {
    let mut times = vec![1; tensor.rank()];
    times[0] = SIGMAS.len();
    Ok(tensor.repeat(times)?)
}
