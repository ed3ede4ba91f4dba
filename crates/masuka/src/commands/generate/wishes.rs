//! What the user asks for: the flags first, then the picture of `--like`; the rest is left to the model.

use masuka_diffusion::noise::Seed;
use masuka_diffusion::pipelines::flux::Defaults;
use masuka_diffusion::pipelines::{
    GenerateRequest, Guidance, Negative, PictureSize, Precision, SamplerName,
};

use super::{like, random_seed};
use crate::cli::{GenerateArgs, LoraArg};
use crate::environment::Environment;
use crate::exit::Usage;
use crate::models::ModelFiles;

/// Everything that may be said about a picture, as far as it was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wishes {
    /// What should be seen.
    pub prompt: String,
    /// What should not be seen.
    pub negative: Option<String>,
    /// The scale of true classifier-free guidance.
    pub true_cfg: Option<f64>,
    /// The first picture's seed.
    pub seed: Option<u64>,
    /// Sampler steps.
    pub steps: Option<usize>,
    /// The sampler.
    pub sampler: Option<SamplerName>,
    /// Distilled guidance.
    pub guidance: Option<f64>,
    /// Pixels from left to right.
    pub width: Option<usize>,
    /// Pixels from top to bottom.
    pub height: Option<usize>,
    /// The precision of weights and activations.
    pub precision: Option<Precision>,
    /// The adapters.
    pub loras: Vec<LoraArg>,
    /// How many pictures.
    pub num_images: usize,
    /// The model of the picture of `--like`, if it says.
    pub made_with: Option<String>,
}

impl Wishes {
    /// Reads the flags, and the picture of `--like` for what they leave open.
    pub fn gather(args: &GenerateArgs, environment: &Environment) -> anyhow::Result<Self> {
        let older = match &args.like {
            Some(path) => like::wishes_of(path, args, environment)?,
            None => Self::default(),
        };
        let Some(prompt) = args.prompt.clone().or(args.like.is_some().then_some(older.prompt))
        else {
            let message =
                "no prompt; say what should be seen, as in `masuka generate \"red apple\"`";
            return Err(Usage(message.into()).into());
        };
        Ok(Self {
            prompt,
            negative: args.negative.clone().or(older.negative),
            true_cfg: args.true_cfg.or(older.true_cfg),
            seed: args.seed.or(older.seed),
            steps: args.steps.or(older.steps),
            sampler: args.sampler.or(older.sampler),
            guidance: args.guidance.or(older.guidance),
            width: args.width.or(older.width),
            height: args.height.or(older.height),
            precision: args.compute.dtype.or(older.precision),
            loras: if args.loras.is_empty() { older.loras } else { args.loras.clone() },
            num_images: args.num_images,
            made_with: older.made_with,
        })
    }

    /// Refuses what no model would accept, before a model is loaded.
    pub fn check_early(&self) -> anyhow::Result<()> {
        let size = PictureSize { width: 64, height: 64 };
        let mut request = self.resolve(Defaults { steps: 1, guidance: 1.0, size })?;
        // A scale is checked even where it will have no effect.
        let scale = self.true_cfg.unwrap_or(1.0);
        request.guidance.negative.get_or_insert(Negative { prompt: String::new(), scale });
        Ok(request.validate(1)?)
    }

    /// Fills what is open from the model's `defaults`.
    pub fn resolve(&self, defaults: Defaults) -> anyhow::Result<GenerateRequest> {
        let scale = self.true_cfg.unwrap_or(1.0);
        let negative = self.negative.clone().map(|prompt| Negative { prompt, scale });
        let embedded = self.guidance.unwrap_or(defaults.guidance);
        Ok(GenerateRequest {
            prompt: self.prompt.clone(),
            guidance: Guidance { embedded, negative },
            steps: self.steps.unwrap_or(defaults.steps),
            sampler: self.sampler.unwrap_or_default(),
            size: PictureSize {
                width: self.width.unwrap_or(defaults.size.width),
                height: self.height.unwrap_or(defaults.size.height),
            },
            seed: self.seed.map_or_else(random_seed, Seed::new)?,
            num_images: self.num_images,
        })
    }

    /// What was asked for and cannot have an effect, beyond what the pipeline says itself.
    pub fn warnings(&self, request: &GenerateRequest, files: &ModelFiles) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.true_cfg.is_some_and(|scale| scale > 1.0) && request.guidance.negative.is_none() {
            let message = "--true-cfg has no effect without --negative, which may be empty";
            warnings.push(message.to_owned());
        }
        if let Some(made_with) = self.made_with.as_ref().filter(|name| **name != files.name()) {
            let name = files.name();
            warnings.push(format!(
                "the picture was made with the model `{made_with}`, this one with `{name}`; choose with --model"
            ));
        }
        warnings
    }
}
