//! The starter model, drawn with; and the levels of the processor on which it is.

use std::process::Command;

use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::flux::{FluxFiles, FluxPipeline};
use masuka_diffusion::pipelines::{
    GenerateRequest, GeneratedPicture, Guidance, LoadOptions, Offload, PictureSize, Precision,
    SamplerName,
};
use masuka_kernels::{Simd, set_level_limit};

/// Keeps the kernels of this process to the level that `MASUKA_CPU_LEVEL` names, if it names one.
pub fn limit_level() {
    if let Ok(level) = std::env::var("MASUKA_CPU_LEVEL") {
        set_level_limit(level.parse().expect("a level"));
    }
}

/// Runs `tests` of this binary at each level below the processor's own: in a process of its own, because a limit holds
/// for all of one.
pub fn pass_at_lower_levels(tests: &[&str]) {
    let levels: Vec<_> = Simd::supported().iter().map(|simd| simd.level()).collect();
    let (_, lower) = levels.split_last().expect("the portable level");
    for level in lower {
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        child.args(["--exact", "--nocapture"]).args(tests).env("MASUKA_CPU_LEVEL", level.name());
        let output = child.output().expect("a child process");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{}\n{text}", level.name());
        assert!(output.status.success(), "{}: {text}", level.name());
        assert!(text.contains(&format!("{} passed", tests.len())), "{}: {text}", level.name());
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
