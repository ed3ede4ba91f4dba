//! Whether a trained adapter has learned its style, judged on objects that it has not seen. First
//! `masuka train fixtures/datasets/blueprint/train --trigger TOK -o target/learning/tok.safetensors`.

mod common;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use common::{repo, tensors};
use image::{RgbImage, imageops};
use masuka_diffusion::adapters::{ChosenAdapter, LoraAdapter};
use masuka_diffusion::conditioning::Conditioning;
use masuka_diffusion::noise::{Generator, Seed};
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, LoadOptions, Offload, Precision, SamplerName,
};
use masuka_diffusion::weights::safetensors_file::SafetensorsFile;
use masuka_training::adapter::{AdapterSize, Targets, TrainedAdapter};
use masuka_training::dataset::{Bucket, Dataset, Pixels};
use masuka_training::gradients::{Batch, Keep, Learner};

const SIGMAS: [f32; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const BLUE: [f64; 3] = [18.0, 56.0, 120.0];
const WHITE: [f64; 3] = [255.0; 3];
/// Losses are comparable with those of trainers that ask for the undistilled velocity.
const GUIDANCE: f32 = 1.0;
const NEAR: f64 = 40.0;

fn pipeline() -> FluxPipeline {
    let files = FluxFiles::folder(&repo("models/starter"));
    let (device, precision, offload) = (Device::Cpu, Precision::F32, Offload::None);
    let options = LoadOptions { device, precision, offload, available_bytes: None };
    FluxPipeline::load(files, &options, &Unobserved).expect("the starter opens")
}

/// The distance from `colour` of the mean of the four outermost pixels on each side.
fn border_distance(picture: &RgbImage, colour: [f64; 3]) -> f64 {
    let (width, height) = picture.dimensions();
    let is_border = |x: u32, y: u32| x < 4 || y < 4 || x >= width - 4 || y >= height - 4;
    let border: Vec<_> =
        picture.enumerate_pixels().filter(|(x, y, _)| is_border(*x, *y)).map(|p| p.2.0).collect();
    let mean = |channel: usize| {
        border.iter().map(|p| f64::from(p[channel])).sum::<f64>() / border.len() as f64
    };
    (0..3).map(|c| (mean(c) - colour[c]).powi(2)).sum::<f64>().sqrt()
}

fn draw(pipeline: &mut FluxPipeline, prompt: &str, seed: u64) -> RgbImage {
    let defaults = pipeline.defaults();
    let request = GenerateRequest {
        prompt: prompt.to_owned(),
        guidance: Guidance { embedded: defaults.guidance, negative: None },
        steps: defaults.steps,
        sampler: SamplerName::Euler,
        size: defaults.size,
        seed: Seed::new(seed).expect("a seed"),
        num_images: 1,
    };
    let mut drawn = None;
    let mut deliver = |generated: masuka_diffusion::pipelines::GeneratedPicture| {
        drawn = Some(generated.picture.to_rgb8());
        Ok(())
    };
    pipeline.generate(&request, &Unobserved, &mut deliver).expect("a picture");
    drawn.expect("a picture")
}

/// The mean loss over the held-out pictures and all sigmas.
fn held_out_loss(pipeline: &mut FluxPipeline, held_out: &Dataset, adapter: &TrainedAdapter) -> f64 {
    let bucket = Bucket { width: 128, height: 128 };
    let mut sum = 0.0;
    for (index, picture) in held_out.pictures.iter().enumerate() {
        let pixels = Pixels::open(&picture.path).expect("a picture");
        let pixels = pixels.fit(bucket, &Device::Cpu).expect("pixels");
        let latents = pipeline.encode_picture(&pixels, &Unobserved).expect("latents");
        let told = pipeline.conditioning(&picture.caption, &Unobserved).expect("a caption");
        let repeat = |t: &Tensor| {
            let mut shape = vec![1; t.rank()];
            shape[0] = SIGMAS.len();
            t.repeat(shape).expect("copies")
        };
        let latents = repeat(&latents);
        let mut generator = Generator::new(Seed::new(1000 + index as u64).expect("a seed"));
        let noise = generator.randn(latents.elem_count());
        let noise = Tensor::from_vec(noise, latents.shape(), &Device::Cpu).expect("noise");
        let conditioning = Conditioning { txt: repeat(&told.txt), pooled: repeat(&told.pooled) };
        let batch = Batch { latents, noise, sigmas: SIGMAS.to_vec(), conditioning, grid: (8, 8) };
        let transformer = pipeline.transformer().expect("the transformer");
        let learner = Learner {
            transformer,
            adapter,
            keep: Keep::Inputs,
            guidance: GUIDANCE,
            by_graph: false,
        };
        let losses = learner.losses(&batch).expect("losses");
        sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64;
    }
    sum / held_out.pictures.len() as f64
}

#[test]
#[ignore = "takes a minute, and an adapter trained before"]
fn unseen_objects_are_drawn_in_the_style() {
    let file = repo("target/learning/tok.safetensors");
    let adapter = LoraAdapter::open(&file).expect("the adapter");
    let header = SafetensorsFile::open(&file).expect("the adapter");
    let number = |key: &str| {
        header.metadata(key).and_then(|text| text.parse::<f64>().ok()).expect("a number")
    };
    let held_out = repo("fixtures/datasets/blueprint/held_out");
    let held_out = Dataset::open(&held_out, Some("TOK")).expect("the held-out pictures");
    let mut pipeline = pipeline();

    let size = AdapterSize { rank: number("rank") as usize, alpha: number("alpha") };
    let slots = pipeline.transformer().expect("the transformer").adapters().clone();
    let tensors = tensors(&file);
    let trained =
        TrainedAdapter::from_tensors(&slots, Targets::AllLinear, size, &tensors, &Device::Cpu)
            .expect("an adapter of all linear layers");
    let before = held_out_loss(&mut pipeline, &held_out, &trained);
    trained.attach();
    let after = held_out_loss(&mut pipeline, &held_out, &trained);
    trained.detach();
    println!("held-out loss {before:.3} -> {after:.3}");

    let adapter = Arc::new(adapter);
    let mut sheet = RgbImage::new(128 * 12, 128 * 4);
    let mut counts = Vec::new();
    let rows = [(1.0, true, BLUE), (0.0, true, WHITE), (0.8, false, WHITE)];
    for (row, (weight, styled, colour)) in rows.into_iter().enumerate() {
        let chosen = ChosenAdapter { adapter: adapter.clone(), weight, allow_partial: false };
        pipeline.set_adapters(vec![chosen]).expect("it fits");
        let mut near = 0;
        for (index, picture) in held_out.pictures.iter().enumerate() {
            let object = picture.caption.trim_end_matches(", TOK style");
            let prompt = if styled { picture.caption.as_str() } else { object };
            let drawn = draw(&mut pipeline, prompt, index as u64);
            near += usize::from(border_distance(&drawn, colour) <= NEAR);
            imageops::replace(&mut sheet, &drawn, 128 * index as i64, 128 * row as i64);
            if row == 0 {
                let original = image::open(&picture.path).expect("a picture").to_rgb8();
                imageops::replace(&mut sheet, &original, 128 * index as i64, 128 * 3);
            }
        }
        println!("weight {weight}, with the style's words {styled}: {near} of 12 near {colour:?}");
        counts.push(near);
    }
    sheet.save(repo("target/learning/held_out.png")).expect("the contact sheet");
    assert!(counts[0] >= 11, "in style: {counts:?}");
    assert_eq!(counts[1], 12, "without the adapter: {counts:?}");
    assert!(after < before / 2.0, "held-out loss {before} -> {after}");
}
