//! Pictures in, adapter out. LoRA training lives here, from a folder of pictures to a finished adapter file; what may not
//! live here: HTTP, databases, async code and the environment.
//!
//! Axis letters as in `masuka-diffusion`: `b` batch, `l` tokens, `d` channels of a token, `c` channels of a latent.

// Reading order: what is asked for, what it is learned from, how one step goes, then the whole walk.
pub mod error; // what can go wrong
pub mod observer; // progress, pause, stopping
pub mod recipe; // everything that decides what an adapter becomes
pub mod randomness; // one seed, many independent streams
mod numbers; // an adapter's tensors as plain numbers, on all threads
mod files; // writing so that nobody sees half of a file
pub mod dataset; // pictures and captions, in batches of equal size
pub mod prior; // pictures of the base model, mixed in
pub mod encoded; // pictures and captions as the denoiser sees them, on disk
pub mod adapter; // the tensors that are trained, beside the model's layers
pub mod timesteps; // how noisy the pictures of a batch are
pub mod gradients; // loss and gradients of one batch, block by block
pub mod pieces; // one batch on several threads
pub mod optimizer; // AdamW, learning rate, moving average
pub mod memory; // what it all takes
pub mod curve; // the loss of every step
mod speed; // how fast steps go
pub mod samples; // pictures drawn meanwhile
pub mod checkpoint; // the whole state in one file
pub mod fingerprint; // says which model it is
pub mod finished; // the adapter's file
pub mod trainer; // the walk of a training

pub use error::{Error, Result};
