//! From prompt to picture on the starter model, against diffusers' `FluxPipeline` in f32.

mod common;

use candle_core::Device;
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, LoadOptions, Negative, Offload, PictureSize, Precision, SamplerName,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    negative: Option<String>,
    true_cfg: f64,
    height: usize,
    width: usize,
    steps: usize,
    guidance: f64,
    num_images: usize,
    seed: u64,
    bf16_psnr_db: f64,
}

impl Case {
    fn all() -> Vec<Self> {
        common::json("fixtures/pipeline/cases.json")
    }

    fn request(&self) -> GenerateRequest {
        let negative = self.negative.clone();
        GenerateRequest {
            prompt: self.prompt.clone(),
            guidance: Guidance {
                embedded: self.guidance,
                negative: negative.map(|prompt| Negative { prompt, scale: self.true_cfg }),
            },
            steps: self.steps,
            sampler: SamplerName::Euler,
            size: PictureSize { width: self.width, height: self.height },
            seed: Seed::new(self.seed).expect("a seed"),
            num_images: self.num_images,
        }
    }

    /// diffusers' pictures, one after the other.
    fn expected(&self) -> Vec<f32> {
        let path = format!("fixtures/pipeline/{}.safetensors", self.name);
        let image = common::tensors(&path)["image"].flatten_all().expect("pixels");
        image.to_vec1().expect("floats")
    }
}

fn load(precision: Precision, offload: Offload) -> FluxPipeline {
    let files = FluxFiles::folder(&common::repo("models/starter"));
    let options = LoadOptions { device: Device::Cpu, precision, offload, available_bytes: None };
    FluxPipeline::load(files, &options, &Unobserved).expect("the starter model loads")
}

fn draw(pipeline: &mut FluxPipeline, request: &GenerateRequest) -> Vec<f32> {
    let mut pixels = Vec::new();
    let mut deliver = |generated: masuka_diffusion::pipelines::GeneratedPicture| {
        pixels.extend_from_slice(generated.picture.values());
        Ok(())
    };
    pipeline.generate(request, &Unobserved, &mut deliver).expect("a picture");
    pixels
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Peak signal-to-noise ratio in dB; the signal's range is 1.
fn psnr(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let mean = a.iter().zip(b).map(square).sum::<f64>() / a.len() as f64;
    -10.0 * mean.log10()
}

#[test]
fn pictures_in_f32_equal_diffusers() {
    let mut pipeline = load(Precision::F32, Offload::None);
    for case in Case::all() {
        let difference = largest_difference(&draw(&mut pipeline, &case.request()), &case.expected());
        println!("{}: {difference:.1e}", case.name);
        assert!(difference <= 1e-3, "{} differs by {difference}", case.name);
    }
}

#[test]
fn pictures_in_bf16_are_closer_to_f32_than_diffusers_own() {
    let mut pipeline = load(Precision::Bf16, Offload::None);
    for case in Case::all() {
        let ours = psnr(&draw(&mut pipeline, &case.request()), &case.expected());
        println!("{}: {ours:.1} dB, diffusers {:.1}", case.name, case.bf16_psnr_db);
        assert!(ours >= 48.0 && ours >= case.bf16_psnr_db, "{}: {ours} dB", case.name);
    }
}
