//! Previews: what is seen of a picture before it is decoded resembles it.

mod common;

use std::sync::Mutex;

use common::starter::{load, psnr};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::{StepObserver, StepProgress, Unobserved};
use masuka_diffusion::pipelines::{
    GenerateRequest, GeneratedPicture, Guidance, Offload, PictureSize, Precision, SamplerName,
};
use masuka_diffusion::vaes::PreviewFactors;

/// Renders what it sees of each step.
struct Watcher {
    factors: PreviewFactors,
    seen: Mutex<Vec<RgbImage>>,
}

impl StepObserver for Watcher {
    fn step(&self, progress: &StepProgress<'_>) {
        let preview = self.factors.render(progress.predicted).unwrap();
        self.seen.lock().unwrap().push(preview);
    }
}

fn floats(picture: &RgbImage) -> Vec<f32> {
    picture.as_raw().iter().map(|byte| f32::from(*byte) / 255.0).collect()
}

#[test]
fn a_preview_resembles_the_picture_and_comes_closer_with_each_step() {
    let mut pipeline = load(Precision::F32, Offload::None);
    let factors = pipeline.preview_factors(&Unobserved).unwrap();
    let watcher = Watcher { factors, seen: Mutex::default() };
    let request = GenerateRequest {
        prompt: "red apple, noto style".to_owned(),
        guidance: Guidance { embedded: 3.5, negative: None },
        steps: 8,
        sampler: SamplerName::Euler,
        size: PictureSize { width: 128, height: 128 },
        seed: Seed::new(7).unwrap(),
        num_images: 1,
    };
    let mut picture = None;
    let mut deliver = |generated: GeneratedPicture| {
        picture = Some(generated.picture.to_rgb8());
        Ok(())
    };
    pipeline.generate(&request, &watcher, &mut deliver).unwrap();
    let seen = watcher.seen.into_inner().unwrap();
    let (width, height) = seen[0].dimensions();
    assert_eq!((seen.len(), width, height), (8, 16, 16));
    let small = floats(&resize(&picture.unwrap(), width, height, FilterType::Triangle));
    let grey = vec![0.5; small.len()];
    let closeness: Vec<_> = seen.iter().map(|preview| psnr(&floats(preview), &small)).collect();
    let last = closeness[7];
    assert!(last > 17.0, "{closeness:?} dB");
    assert!(last > psnr(&grey, &small) + 6.0, "{closeness:?} dB");
    assert!(last > closeness[0] + 1.0, "{closeness:?} dB");
}

#[test]
fn the_factors_are_the_same_each_time_and_survive_being_written_down() {
    let fit = || load(Precision::F32, Offload::Components).preview_factors(&Unobserved).unwrap();
    let factors = fit();
    assert_eq!(factors, fit());
    let text = serde_json::to_string(&factors).unwrap();
    assert_eq!(serde_json::from_str::<PreviewFactors>(&text).unwrap(), factors);
}
