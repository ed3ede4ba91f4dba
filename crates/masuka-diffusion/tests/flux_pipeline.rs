//! From prompt to picture on the starter model, against diffusers' `FluxPipeline` in f32.

mod common;

use candle_core::Tensor;
use common::starter::{draw, largest_difference, load, pass_at_lower_levels, psnr};
use masuka_diffusion::noise::Seed;
use masuka_diffusion::observer::Unobserved;
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, Negative, Offload, PictureSize, Precision, SamplerName,
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

#[test]
fn pictures_in_f32_equal_diffusers() {
    let mut pipeline = load(Precision::F32, Offload::None);
    for case in Case::all() {
        let difference =
            largest_difference(&draw(&mut pipeline, &case.request()), &case.expected());
        println!("{}: {difference:.1e}", case.name);
        assert!(difference <= 1e-3, "{} differs by {difference}", case.name);
    }
}

#[test]
fn pictures_in_bf16_are_closer_to_f32_than_diffusers_own() {
    let mut pipeline = load(Precision::Bf16, Offload::None);
    for case in Case::all().into_iter().take(cases_of_level()) {
        let ours = psnr(&draw(&mut pipeline, &case.request()), &case.expected());
        println!("{}: {ours:.1} dB, diffusers {:.1}", case.name, case.bf16_psnr_db);
        assert!(ours >= 48.0 && ours >= case.bf16_psnr_db, "{}: {ours} dB", case.name);
    }
}

/// All, but two on a level that is not this processor's own: plain loops take seconds for each.
fn cases_of_level() -> usize {
    if std::env::var_os("MASUKA_CPU_LEVEL").is_some() { 2 } else { usize::MAX }
}

#[test]
fn the_lower_levels_of_the_processor_draw_as_well() {
    pass_at_lower_levels(&["pictures_in_bf16_are_closer_to_f32_than_diffusers_own"]);
}

/// The starter's velocities for noise at several times.
fn velocities(precision: Precision) -> Vec<Tensor> {
    let mut pipeline = load(precision, Offload::None);
    let conditioning =
        pipeline.conditioning("red apple, noto style", &Unobserved).expect("encoded");
    let numbers: Vec<f32> = (0..64 * 64).map(|i| 2.0 * (i as f32 * 1.7).sin()).collect();
    let latents = Tensor::from_vec(numbers, (1, 64, 64), &common::device()).expect("latents");
    let transformer = pipeline.transformer().expect("a transformer");
    let prepared = transformer.prepare(&conditioning, (8, 8), &[3.5]).expect("inputs that fit");
    let velocity = |sigma| transformer.forward(&latents, &[sigma], &prepared, &Unobserved);
    [1.0, 0.7, 0.3].map(|sigma| velocity(sigma).expect("a velocity")).into()
}

/// A card has no int8.
fn has_int8() -> bool {
    common::device().is_cpu()
}

/// √(Σ (a − b)²) / √(Σ b²)
fn relative_rmse(a: &Tensor, b: &Tensor) -> f32 {
    let square = |x: &Tensor| x.sqr().and_then(|x| x.sum_all()?.to_scalar::<f32>()).expect("a sum");
    (square(&(a - b).expect("equal shapes")) / square(b)).sqrt()
}

#[test]
fn velocities_in_int8_are_within_three_percent_of_bf16() {
    if !has_int8() {
        return;
    }
    for (int8, bf16) in velocities(Precision::Int8).iter().zip(&velocities(Precision::Bf16)) {
        let error = relative_rmse(int8, bf16);
        println!("int8 velocity: {error:.4}");
        assert!(error > 0.0 && error <= 0.03, "{error}");
    }
}

#[test]
fn pictures_in_int8_show_what_diffusers_draws() {
    if !has_int8() {
        return;
    }
    let mut pipeline = load(Precision::Int8, Offload::None);
    for case in Case::all().into_iter().take(cases_of_level()) {
        let ours = psnr(&draw(&mut pipeline, &case.request()), &case.expected());
        println!("{}: int8 {ours:.1} dB", case.name);
        assert!(ours >= 40.0, "{}: {ours} dB", case.name);
    }
}

#[test]
fn tokens_are_counted_and_a_cut_prompt_is_told() {
    let mut pipeline = load(Precision::F32, Offload::None);
    let long = "a red apple on a wooden table in the evening light of a warm summer day";
    let case = Case::all().remove(0);
    let request = GenerateRequest { steps: 1, ..case.request() };
    let mut report = |request: &GenerateRequest| {
        pipeline.generate(request, &Unobserved, &mut |_| Ok(())).expect("a picture")
    };
    let short = report(&request);
    assert_eq!((short.t5_tokens, short.clip_tokens), (7, 7)); // as fixtures/tokenizers has them
    assert_eq!(short.warnings, Vec::<String>::new());

    let negative = Some(Negative { prompt: long.to_owned(), scale: 2.0 });
    let guidance = Guidance { embedded: 3.5, negative };
    let cut = report(&GenerateRequest { prompt: long.to_owned(), guidance, ..request });
    assert_eq!((cut.t5_tokens, cut.clip_tokens), (16, 16));
    let [prompt, negative] = &cut.warnings[..] else { panic!("{:?}", cut.warnings) };
    assert!(prompt.starts_with("the prompt is longer than 16 tokens; cut off: `"), "{prompt}");
    assert!(negative.starts_with("the negative prompt is longer than 16 tokens"), "{negative}");
    assert!(prompt.ends_with("day`") && negative.ends_with("day`"), "{prompt}");
}

#[test]
fn memory_modes_give_the_same_bits() {
    let case = Case::all().into_iter().find(|case| case.name == "two_images").expect("the case");
    let request = GenerateRequest { steps: 2, ..case.request() };
    let resident = draw(&mut load(Precision::F32, Offload::None), &request);
    for offload in [Offload::Components, Offload::Blocks] {
        assert_eq!(draw(&mut load(Precision::F32, offload), &request), resident, "{offload}");
    }
}
