//! The autoencoder against diffusers' (`fixtures/vae/make.py`), and its bands against itself.

mod common;

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use common::starter::{limit_level, pass_at_lower_levels};
use masuka_diffusion::Result;
use masuka_diffusion::observer::{StepObserver, Unobserved};
use masuka_diffusion::vaes::{AutoencoderKl, AutoencoderKlConfig, Tiling};
use masuka_diffusion::weights::{Checkpoint, TensorSource, Weights};

/// Bands of the fewest rows, whatever the picture.
const NARROW: Tiling = Tiling::Bands { band_bytes: 0 };

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn load(folder: &Path, dtype: DType) -> Result<AutoencoderKl> {
    limit_level();
    let config = AutoencoderKlConfig::read(&folder.join("config.json"))?;
    let file = folder.join("diffusion_pytorch_model.safetensors");
    let source = Checkpoint::from_files(&file, std::slice::from_ref(&file))?;
    let weights = Weights::new(Box::new(source), dtype, &common::device());
    let vae = AutoencoderKl::load(&weights, &config)?;
    weights.finish()?;
    Ok(vae)
}

fn starter(dtype: DType) -> Result<AutoencoderKl> {
    load(&repository().join("models/starter/vae"), dtype)
}

fn largest(x: &Tensor) -> Result<f32> {
    Ok(x.abs()?.flatten_all()?.max(0)?.to_scalar()?)
}

/// The largest difference over the largest expected number.
fn distance(found: &Tensor, expected: &Tensor) -> Result<f32> {
    Ok(largest(&(found - expected)?)? / largest(expected)?)
}

/// Peak signal-to-noise ratio of pictures in [-1, 1], in dB.
fn psnr(found: &Tensor, expected: &Tensor) -> Result<f32> {
    let mse = (found - expected)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    Ok(10.0 * (4.0 / mse).log10())
}

/// Smooth colours with a few edges, (1, 3, height, width) in [-1, 1].
fn picture(height: usize, width: usize) -> Result<Tensor> {
    let pixel = |c: usize, y: usize, x: usize| {
        let (y, x) = (y as f32 / height as f32, x as f32 / width as f32);
        let disc = if (x - 0.6).hypot(y - 0.4) < 0.25 { 0.5 } else { -0.2 };
        (disc + 0.5 * (7.0 * x + 3.0 * y * c as f32).sin()).clamp(-1.0, 1.0)
    };
    let rows = (0..3).flat_map(|c| (0..height).map(move |y| (c, y)));
    let pixels: Vec<f32> =
        rows.flat_map(|(c, y)| (0..width).map(move |x| pixel(c, y, x))).collect();
    Ok(Tensor::from_vec(pixels, (1, 3, height, width), &common::device())?)
}

/// Both directions of the fixture `name` in f32, by `tiling`.
fn check_parity(name: &str, tiling: Tiling) -> Result<()> {
    let folder = repository().join("fixtures/vae").join(name);
    let vae = load(&folder, DType::F32)?;
    for case in ["square", "odd"] {
        let file = folder.join(format!("io_{case}.safetensors"));
        let io = Checkpoint::from_files(&file, std::slice::from_ref(&file))?;
        let io = |tensor: &str| io.load(tensor, DType::F32, &common::device());

        let moments = io("moments")?;
        let channels = moments.dim(1)? / 2;
        let latents = vae.encode(&io("image")?, tiling, &Unobserved)?;
        let mean = distance(&latents.mean, &moments.narrow(1, 0, channels)?)?;
        let logvar = distance(&latents.logvar, &moments.narrow(1, channels, channels)?)?;
        let picture = vae.decode(&vae.scale(&io("latents")?)?, tiling, &Unobserved)?;
        let decoded = distance(&picture, &io("decoded")?)?;

        println!("{name} {case} {tiling:?}: mean {mean:e}, logvar {logvar:e}, decoded {decoded:e}");
        assert!(mean < 1e-4 && logvar < 1e-4 && decoded < 1e-4, "{name} {case} {tiling:?}");
    }
    Ok(())
}

#[test]
fn every_configuration_agrees_with_diffusers() -> Result<()> {
    ["four_levels", "three_levels", "quant_conv"]
        .into_iter()
        .try_for_each(|name| check_parity(name, Tiling::Whole))
}

#[test]
fn bands_agree_with_diffusers_too() -> Result<()> {
    ["four_levels", "three_levels", "quant_conv"]
        .into_iter()
        .try_for_each(|name| check_parity(name, NARROW))
}

/// The PSNR of `vae`'s decoding in bands of `band_bytes` against its decoding as a whole.
fn bands_against_whole(vae: &AutoencoderKl, latents: &Tensor, band_bytes: usize) -> Result<f32> {
    let whole = vae.decode(latents, Tiling::Whole, &Unobserved)?;
    let banded = vae.decode(latents, Tiling::Bands { band_bytes }, &Unobserved)?;
    let db = psnr(&banded, &whole)?;
    println!("bands of {:?}: {db} dB from the whole", whole.dims());
    Ok(db)
}

#[test]
fn bands_are_at_least_40_db_from_the_whole() -> Result<()> {
    let vae = starter(DType::F32)?;
    let latents = vae.scale(&vae.encode(&picture(384, 256)?, Tiling::Whole, &Unobserved)?.mean)?;
    assert!(bands_against_whole(&vae, &latents, 4 << 20)? > 80.0);
    Ok(())
}

#[test]
fn so_they_are_for_a_picture_of_1024_pixels() -> Result<()> {
    // An autoencoder of few channels, because the starter's takes a minute.
    let vae = load(&repository().join("fixtures/vae/quant_conv"), DType::F32)?;
    let quarter = vae.encode(&picture(256, 256)?, Tiling::Whole, &Unobserved)?.mean;
    let latents = vae.scale(&quarter)?.repeat((1, 1, 4, 4))?;
    assert!(bands_against_whole(&vae, &latents, 32 << 20)? > 80.0);
    Ok(())
}

#[test]
fn the_encoder_in_bands_agrees_with_the_whole() -> Result<()> {
    let vae = starter(DType::F32)?;
    let picture = picture(256, 200)?;
    let whole = vae.encode(&picture, Tiling::Whole, &Unobserved)?.mean;
    let banded = vae.encode(&picture, Tiling::Bands { band_bytes: 1 << 20 }, &Unobserved)?.mean;
    assert!(distance(&banded, &whole)? < 1e-4, "{}", distance(&banded, &whole)?);
    Ok(())
}

#[test]
fn sixteen_bits_are_close_to_thirty_two() -> Result<()> {
    let (f32, bf16) = (starter(DType::F32)?, starter(DType::BF16)?);
    let latents = f32.scale(&f32.encode(&picture(200, 136)?, NARROW, &Unobserved)?.mean)?;
    let expected = f32.decode(&latents, Tiling::Whole, &Unobserved)?;
    for tiling in [Tiling::Whole, NARROW] {
        let found = bf16.decode(&latents, tiling, &Unobserved)?;
        println!("bf16 {tiling:?}: {} dB", psnr(&found, &expected)?);
        assert_eq!(found.dtype(), DType::F32);
        assert!(psnr(&found, &expected)? > 45.0, "{}", psnr(&found, &expected)?);
    }
    Ok(())
}

#[test]
fn the_lower_levels_of_the_processor_agree_as_well() {
    pass_at_lower_levels(&[
        "every_configuration_agrees_with_diffusers",
        "sixteen_bits_are_close_to_thirty_two",
    ]);
}

#[test]
fn sizes_that_the_factor_does_not_divide_lose_their_rest() -> Result<()> {
    let vae = starter(DType::F32)?;
    let latents = vae.encode(&picture(45, 71)?, Tiling::Whole, &Unobserved)?.mean;
    assert_eq!(latents.dims4()?, (1, 16, 5, 8));
    let banded = vae.encode(&picture(45, 71)?, NARROW, &Unobserved)?.mean;
    assert!(distance(&banded, &latents)? < 1e-4);
    let error = vae.encode(&picture(45, 7)?, Tiling::Whole, &Unobserved).unwrap_err();
    assert_eq!(error.to_string(), "width 7 is less than 8");
    Ok(())
}

#[test]
fn neither_direction_changes_its_input() -> Result<()> {
    let vae = starter(DType::F32)?;
    let input = picture(64, 48)?;
    let latents = vae.scale(&vae.encode(&input, NARROW, &Unobserved)?.mean)?;
    let before = latents.copy()?;
    vae.decode(&latents, NARROW, &Unobserved)?;
    assert_eq!(largest(&(latents - before)?)?, 0.0);
    assert_eq!(largest(&(input - picture(64, 48)?)?)?, 0.0);
    Ok(())
}

#[test]
fn scaling_is_shift_then_factor() -> Result<()> {
    let vae = starter(DType::F32)?;
    let latents = Tensor::full(1.5f32, (1, 16, 1, 1), &common::device())?;
    let scaled = vae.scale(&latents)?.flatten_all()?.to_vec1::<f32>()?[0];
    assert!((scaled - (1.5 + 0.499_817_5) * 0.676_216_54).abs() < 1e-6, "{scaled}");
    Ok(())
}

#[test]
fn log_variances_are_kept_between_minus_30_and_20() -> Result<()> {
    let vae = starter(DType::F32)?;
    let latents = vae.encode(&(picture(64, 64)? * 1e4)?, Tiling::Whole, &Unobserved)?;
    let logvar = latents.logvar.flatten_all()?;
    assert!(logvar.min(0)?.to_scalar::<f32>()? >= -30.0);
    assert!(logvar.max(0)?.to_scalar::<f32>()? <= 20.0);
    let no_noise = latents.sample(&latents.mean.zeros_like()?)?;
    assert_eq!(largest(&(no_noise - &latents.mean)?)?, 0.0);
    Ok(())
}

struct StopsAtOnce;

impl StepObserver for StopsAtOnce {
    fn proceed(&self) -> bool {
        false
    }
}

#[test]
fn a_cancelled_picture_stops() -> Result<()> {
    let vae = starter(DType::F32)?;
    let error = vae.encode(&picture(64, 64)?, NARROW, &StopsAtOnce).unwrap_err();
    assert_eq!(error.to_string(), "cancelled");
    Ok(())
}
