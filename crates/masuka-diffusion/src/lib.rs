//! Prompt in, picture out. Everything that computes a picture lives here; what may not live here: HTTP, databases,
//! async code and the environment.
//!
//! Axis letters, the same in every module: `b` batch, `l` tokens (text and image together), `h` attention heads,
//! `d` channels of a token or head, `c` channels of a picture or latent, `y` rows, `x` columns.

// Reading order: what a picture is made of, then the parts that make it, then the whole walk.
pub mod error; // what can go wrong
pub mod observer; // progress, pause, cancellation
pub mod devices; // which processor or card computes
pub mod noise; // the one place where randomness enters
pub mod latents; // pictures as the denoiser sees them
pub mod conditioning; // prompts as the denoiser sees them
mod files; // the small files of a model folder
pub mod weights; // checkpoints: files, names, dtypes
pub mod ops; // the one door to the arithmetic of each device
pub mod layers; // linear, norms, convolution, embeddings
pub mod adapters; // LoRA: side branches of `Linear`
pub mod tokenizers; // prompts to token ids
pub mod text_encoders; // token ids to what a denoiser is told
pub mod transformers; // denoisers
pub mod vaes; // autoencoders: pictures to latents and back
pub mod samplers; // from noise to latents along a schedule
pub mod pipelines; // the whole walk, one folder a family
pub mod pictures; // PNG files that say how they were made

pub use error::{Error, Result};
