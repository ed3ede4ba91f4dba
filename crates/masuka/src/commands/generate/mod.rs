//! `masuka generate`: a prompt becomes picture files.

mod wishes; // what the user asks for
mod like; // what an older picture asks for
mod targets; // where the pictures go
mod report; // what is told at the end

use std::time::Instant;

use anyhow::Context;
use masuka_diffusion::Error;
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::noise::Seed;
use masuka_diffusion::pictures::{LoraUse, Parameters, encode_png, hash_safetensors};
use masuka_diffusion::pipelines::{GenerateRequest, GeneratedPicture};

use crate::cli::{GenerateArgs, LoraArg};
use crate::engine::{self, Compute, Engine};
use crate::environment::Environment;
use crate::files::write_atomically;
use crate::interrupt::Interrupt;
use crate::models::ModelFiles;
use crate::progress::Progress;

use report::{Report, UsedLora, WrittenImage};
use targets::Targets;
use wishes::Wishes;

/// Makes the pictures of `args` and writes them.
pub fn run(args: &GenerateArgs, environment: &Environment) -> anyhow::Result<()> {
    let start = Instant::now();
    let wishes = Wishes::gather(args, environment)?;
    wishes.check_early()?;
    let targets = Targets::new(args.output.as_deref(), wishes.num_images)?;
    let compute = choose_compute(args, &wishes, environment)?;
    engine::use_level(environment)?;
    let files = ModelFiles::choose(&args.model, environment)?;
    if let Some(count) = args.compute.threads {
        engine::use_threads(count.into())?;
    }

    let progress = Progress::new(Interrupt::listen()?);
    let mut engine = Engine::load(&files, compute, &progress)?;
    let request = wishes.resolve(engine.defaults())?;
    request.validate(engine.size_multiple())?;
    let parameters = describe(&request, &wishes.loras, compute, &files)?;
    let used = engine.use_loras(&wishes.loras, args.allow_partial)?;
    let loras =
        wishes.loras.iter().zip(used).map(|(lora, used)| UsedLora::new(lora, used)).collect();

    progress.expect(request.num_images, request.steps);
    let mut written: Vec<WrittenImage> = Vec::new();
    let mut deliver = |image: GeneratedPicture| {
        let of_this = Parameters { seed: Some(image.seed.value()), ..parameters.clone() };
        let png = encode_png(&image.picture.to_rgb8(), &of_this)?;
        let path = targets.path(image.index, image.seed);
        write_atomically(&path, &png).map_err(|e| to_engine_error(&path, &e))?;
        written.push(WrittenImage { path, seed: image.seed.value() });
        Ok(())
    };
    let outcome = engine.generate(&request, &progress, &mut deliver);
    let told = outcome.inspect_err(|_| report::print_what_is_left(&written, request.num_images))?;
    let warnings = wishes.warnings(&request, &files).into_iter().chain(told.warnings).collect();
    let tokens = (told.t5_tokens, told.clip_tokens);
    let total = start.elapsed();
    let report = Report { images: written, parameters, loras, tokens, warnings, total };
    report.print(&progress, args.json)
}

/// The flags, else the picture of `--like` (precision only), else the environment, else what is best here.
fn choose_compute(
    args: &GenerateArgs,
    wishes: &Wishes,
    environment: &Environment,
) -> anyhow::Result<Compute> {
    let named = environment.device.as_deref().map(str::parse::<DeviceKind>).transpose();
    let device = match args.compute.device {
        Some(device) => device,
        None => named.context("MASUKA_DEVICE")?.unwrap_or_else(DeviceKind::best),
    };
    let precision = wishes.precision.unwrap_or(engine::DEFAULT_PRECISION);
    Ok(Compute { device, precision, offload: args.compute.offload })
}

/// What every picture of the request will say about itself, but for its own seed.
fn describe(
    request: &GenerateRequest,
    loras: &[LoraArg],
    compute: Compute,
    files: &ModelFiles,
) -> anyhow::Result<Parameters> {
    let negative = request.guidance.negative.as_ref();
    Ok(Parameters {
        prompt: request.prompt.clone(),
        negative: negative.map(|negative| negative.prompt.clone()),
        true_cfg: Some(negative.map_or(1.0, |negative| negative.scale)),
        seed: Some(request.seed.value()),
        steps: Some(request.steps),
        sampler: Some(request.sampler.to_string()),
        guidance: Some(request.guidance.embedded),
        width: Some(request.size.width),
        height: Some(request.size.height),
        model: Some(files.name()),
        dtype: Some(compute.precision.to_string()),
        loras: loras.iter().map(describe_lora).collect::<anyhow::Result<_>>()?,
        version: Some(concat!("masuka ", env!("CARGO_PKG_VERSION")).to_owned()),
    })
}

fn describe_lora(lora: &LoraArg) -> anyhow::Result<LoraUse> {
    let hashes = hash_safetensors(&lora.file)?;
    let name = lora.file.file_name().unwrap_or(lora.file.as_os_str());
    Ok(LoraUse {
        file: name.to_string_lossy().into_owned(),
        weight: lora.weight,
        sha256: Some(hashes.sha256),
        autov3: Some(hashes.autov3),
    })
}

/// The pipeline hands on only its own errors.
fn to_engine_error(path: &std::path::Path, error: &anyhow::Error) -> Error {
    let reason = error.root_cause().to_string();
    Error::io(path, std::io::Error::other(reason))
}

/// A seed that nobody chose: below 2³², where every seed gives other noise.
fn random_seed() -> Result<Seed, Error> {
    use std::hash::{BuildHasher, RandomState};
    // The keys of a `RandomState` come from the system's random numbers.
    Seed::new(RandomState::new().hash_one(std::process::id()) & 0xffff_ffff)
}
