//! Prompt in, picture out. Everything that computes a picture lives here; what may not live here: HTTP, databases,
//! async code and the environment.
//!
//! Axis letters, the same in every module: `b` batch, `l` tokens (text and image together), `h` attention heads,
//! `d` channels of a token or head, `c` channels of a picture or latent, `y` rows, `x` columns.

// Reading order: what a picture is made of, then the parts that make it, then the whole walk.
pub mod error; // what can go wrong
pub mod observer; // progress, pause, cancellation
pub mod devices; // which processor or card computes
pub mod weights; // checkpoints: files, names, dtypes
pub mod ops; // the one door to the arithmetic of each device
pub mod layers; // linear, norms, convolution, embeddings
pub mod adapters; // LoRA: side branches of `Linear`
pub mod pictures; // PNG files that say how they were made

pub use error::{Error, Result};
