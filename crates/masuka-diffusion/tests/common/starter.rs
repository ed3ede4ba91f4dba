//! The starter model, drawn with.

use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, GeneratedPicture, Guidance, LoadOptions, Offload, PictureSize, Precision,
    SamplerName,
};
use masuka_kernels::set_level_limit;

/// Keeps the kernels of this process to the level that `MASUKA_CPU_LEVEL` names, if it names one.
pub fn limit_level() {
    if let Ok(level) = std::env::var("MASUKA_CPU_LEVEL") {
        set_level_limit(level.parse().expect("a level"));
    }
}

/// The starter model.
pub fn load(precision: Precision, offload: Offload) -> FluxPipeline {
    limit_level();
    let files = FluxFiles::folder(&super::repo("models/starter"));
    let options =
        LoadOptions { device: super::device(), precision, offload, available_bytes: None };
    FluxPipeline::load(files, &options, &Unobserved).expect("the starter model loads")
}

/// A model of other files, in f32 and all in memory.
pub fn load_files(files: FluxFiles) -> FluxPipeline {
    let (precision, offload) = (Precision::F32, Offload::None);
    let options =
        LoadOptions { device: super::device(), precision, offload, available_bytes: None };
    FluxPipeline::load(files, &options, &Unobserved).unwrap_or_else(|e| panic!("{e}"))
}

/// A small picture of an apple.
pub fn draw_four_steps(pipeline: &mut FluxPipeline) -> Vec<f32> {
    let request = GenerateRequest {
        prompt: "red apple".to_owned(),
        guidance: Guidance { embedded: 3.5, negative: None },
        steps: 4,
        sampler: SamplerName::Euler,
        size: PictureSize { width: 64, height: 64 },
        seed: Seed::new(7).expect("a seed"),
        num_images: 1,
    };
    draw(pipeline, &request)
}

/// The pictures of `request`, one after the other, as floats.
pub fn draw(pipeline: &mut FluxPipeline, request: &GenerateRequest) -> Vec<f32> {
    let mut pixels = Vec::new();
    let mut deliver = |generated: GeneratedPicture| {
        pixels.extend_from_slice(generated.picture.values());
        Ok(())
    };
    pipeline.generate(request, &Unobserved, &mut deliver).expect("a picture");
    pixels
}

/// max |a − b|.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Peak signal-to-noise ratio in dB; the signal's range is 1.
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    let mean = a.iter().zip(b).map(square).sum::<f64>() / a.len() as f64;
    -10.0 * mean.log10()
}
