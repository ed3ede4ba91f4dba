//! The command line's words. What they do lives in `commands/`.

mod models; // the words of `masuka models`
mod train; // the words of `masuka train`

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use masuka_diffusion::devices::DeviceKind;
use masuka_diffusion::pipelines::{Offload, Precision, SamplerName};

pub use models::{DefaultArgs, InstallArgs, ListArgs, ModelsArgs, ModelsCommand, RemoveArgs};
pub use train::{RecipeArgs, TrainArgs};

/// A self-hosted AI studio in one binary.
#[derive(Debug, Parser)]
#[command(name = "masuka", version, about, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draw pictures from a prompt
    Generate(Box<GenerateArgs>),
    /// Train a LoRA on a folder of captioned pictures
    Train(Box<TrainArgs>),
    /// Run the studio: the HTTP interface and a worker
    Serve(ServeArgs),
    /// Run a worker on the database of a studio
    Worker(WorkerArgs),
    /// Install, list and remove base models
    Models(ModelsArgs),
    /// Say how a picture was made, or what a checkpoint file holds
    Inspect(InspectArgs),
    /// Say what this machine and this build can do, and what is wrong
    Doctor(DoctorArgs),
    /// Print the OpenAPI document of the HTTP interface
    Openapi,
}

/// `masuka generate`
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct GenerateArgs {
    /// What should be seen, such as "red apple, noto style"
    pub prompt: Option<String>,

    /// The picture's file; several become NAME-1.png, NAME-2.png… [default: masuka-SEED.png, never overwritten]
    #[arg(short, long, value_name = "FILE.png")]
    pub output: Option<PathBuf>,

    /// Take everything that is not given here from this picture
    #[arg(long, value_name = "FILE.png")]
    pub like: Option<PathBuf>,

    /// What should not be seen; needs --true-cfg above 1
    #[arg(long, value_name = "PROMPT")]
    pub negative: Option<String>,

    /// Scale of true classifier-free guidance, 1 to 20; above 1 every step runs twice [default: 1]
    #[arg(long, value_name = "SCALE")]
    pub true_cfg: Option<f64>,

    /// Where the noise starts from; picture i uses SEED + i [default: random]
    #[arg(long)]
    pub seed: Option<u64>,

    /// Sampler steps, 1 to 100 [default: the model's]
    #[arg(long)]
    pub steps: Option<usize>,

    /// Distilled guidance, 0 to 20 [default: the model's]
    #[arg(long, value_name = "SCALE")]
    pub guidance: Option<f64>,

    /// Pixels from left to right [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<usize>,

    /// Pixels from top to bottom [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<usize>,

    /// How many pictures, 1 to 4
    #[arg(short, long, value_name = "COUNT", default_value_t = 1)]
    pub num_images: usize,

    /// The walk from noise to picture [default: euler]
    #[arg(long, value_parser = one_of::<SamplerName>(&["euler", "heun"]))]
    pub sampler: Option<SamplerName>,

    /// A LoRA and its weight, -2 to 2; may be given several times
    #[arg(long = "lora", value_name = "FILE[:WEIGHT]")]
    pub loras: Vec<LoraArg>,

    /// Use a LoRA even if some of its tensors fit nowhere
    #[arg(long)]
    pub allow_partial: bool,

    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,

    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Where and how it computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// Which model.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A folder in the layout of diffusers, a checkpoint file or `starter` [default: MASUKA_BASE_MODEL or starter]
    #[arg(long, value_name = "DIR|FILE")]
    pub model: Option<PathBuf>,

    /// The autoencoder, if the model lacks it or another is wanted
    #[arg(long, value_name = "DIR|FILE")]
    pub vae: Option<PathBuf>,

    /// CLIP, likewise
    #[arg(long, value_name = "DIR|FILE")]
    pub text_encoder: Option<PathBuf>,

    /// T5, likewise
    #[arg(long, value_name = "DIR|FILE")]
    pub text_encoder_2: Option<PathBuf>,

    /// CLIP's tokenizer, likewise
    #[arg(long, value_name = "DIR|FILE")]
    pub tokenizer: Option<PathBuf>,

    /// T5's tokenizer, likewise
    #[arg(long, value_name = "DIR|FILE")]
    pub tokenizer_2: Option<PathBuf>,

    /// A folder in the layout of diffusers that gives every part not named above
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
}

/// Where and how it computes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Computing")]
pub struct ComputeArgs {
    /// [default: MASUKA_DEVICE or the fastest that is there]
    #[arg(long, value_parser = one_of::<DeviceKind>(&["cpu", "cuda", "metal"]))]
    pub device: Option<DeviceKind>,

    /// Precision of weights and activations
    #[arg(long, value_parser = one_of::<Precision>(&["f32", "bf16", "int8"]))]
    pub dtype: Option<Precision>,

    /// What to keep out of memory until its turn comes, to fit a larger model
    #[arg(long, default_value = "none", value_parser = one_of::<Offload>(&["none", "components", "blocks"]))]
    pub offload: Offload,

    /// How many threads compute [default: as many as the processor has]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// `masuka serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The address to listen on [default: MASUKA_HOST or 127.0.0.1]
    #[arg(long)]
    pub host: Option<String>,

    /// The port; 0 lets the system choose [default: MASUKA_PORT or 8000]
    #[arg(long)]
    pub port: Option<u16>,

    /// Listen beyond this machine although no MASUKA_API_KEY is set
    #[arg(long)]
    pub allow_anyone: bool,

    /// Start no worker; `masuka worker` runs elsewhere
    #[arg(long)]
    pub no_worker: bool,

    /// Load the base model at once, not when the first picture needs it
    #[arg(long, conflicts_with = "no_worker")]
    pub preload: bool,

    /// Give the memory of base models back after so long without a job [default: they stay]
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_worker")]
    pub unload_after: Option<u64>,

    /// How many jobs may wait before more are refused
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub max_waiting: u64,

    /// How many pixels a picture may have, width times height
    #[arg(long, value_name = "COUNT", default_value_t = 2048 * 2048)]
    pub max_pixels: u64,

    /// For how long an upload may be silent, or a connection wait for its next request, before it is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    pub client_silence: u16,

    /// After how many crashed workers a job is given up
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    pub max_attempts: u8,

    /// Where everything is kept [default: MASUKA_DATA_DIR or the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where and how it computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `masuka worker`
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The queues to serve
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = ["generation", "training"],
        default_value = "generation,training"
    )]
    pub queues: Vec<String>,

    /// How many jobs to do at once; each holds its own copy of the model
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub concurrency: u8,

    /// Load this base model at once, not when the first picture needs it
    #[arg(long, value_name = "ID")]
    pub preload: Option<String>,

    /// Give the memory of base models back after so long without a job [default: they stay]
    #[arg(long, value_name = "SECONDS")]
    pub unload_after: Option<u64>,

    /// Where everything is kept [default: MASUKA_DATA_DIR or the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Whether a training lets pictures that wait go first, between two of its steps
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub training_yields: bool,

    /// The server that starts this worker and holds its standard input
    #[arg(long, hide = true, requires = "id", conflicts_with = "concurrency")]
    pub supervisor: Option<String>,

    /// The id under which the worker is entered
    #[arg(long, hide = true)]
    pub id: Option<String>,

    /// Where and how it computes.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// `masuka inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A picture (.png) or a checkpoint (.safetensors, .gguf)
    pub file: PathBuf,

    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// `masuka doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Compare the stored files with the database's rows instead; safe while servers and workers run
    #[arg(long)]
    pub storage: bool,

    /// Read every file and compare its content, too
    #[arg(long, requires = "storage")]
    pub read_all: bool,

    /// Remove files that nothing refers to
    #[arg(long, requires = "storage")]
    pub remove_orphans: bool,

    /// Where everything is kept [default: MASUKA_DATA_DIR or the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// A LoRA file and its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraArg {
    /// The file.
    pub file: PathBuf,
    /// How strongly it is applied.
    pub weight: f64,
}

impl LoraArg {
    /// The weight where none is given, as in the HTTP interface.
    const DEFAULT_WEIGHT: f64 = 0.8;
}

impl FromStr for LoraArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':');
        let weighted = parts.and_then(|(file, weight)| Some((file, weight.parse::<f64>().ok()?)));
        let (file, weight) = weighted.unwrap_or((text, Self::DEFAULT_WEIGHT));
        if !(-2.0..=2.0).contains(&weight) {
            return Err(format!("weight {weight} is not within -2 and 2"));
        }
        Ok(Self { file: file.into(), weight })
    }
}

/// A parser that offers `names`, which are all known to `T`.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = masuka_diffusion::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_lora_may_carry_its_weight() {
        let check = |text: &str, file: &str, weight| {
            assert_eq!(text.parse(), Ok(LoraArg { file: file.into(), weight }), "{text}");
        };
        check("a.safetensors", "a.safetensors", 0.8);
        check("a.safetensors:1", "a.safetensors", 1.0);
        check("dir/b:c.safetensors:-0.5", "dir/b:c.safetensors", -0.5);
        check("b:c.safetensors", "b:c.safetensors", 0.8);
        for text in ["a:3", "a:-2.1", "a:nan", "a:inf"] {
            assert!(text.parse::<LoraArg>().unwrap_err().contains("is not within"), "{text}");
        }
    }
}
