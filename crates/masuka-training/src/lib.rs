//! Pictures in, adapter out. LoRA training lives here, from a folder of pictures to a finished adapter file; what may not
//! live here: HTTP, databases, async code and the environment.
//!
//! Axis letters as in `masuka-diffusion`: `b` batch, `l` tokens, `d` channels of a token, `c` channels of a latent.

// Reading order: what can go wrong, what is trained, how one step goes.
pub mod error; // what can go wrong
pub mod randomness; // one seed, many independent streams
pub mod adapter; // the tensors that are trained, beside the model's layers
pub mod gradients; // loss and gradients of one batch, block by block
pub mod optimizer; // AdamW, clipping, learning rate, moving average

pub use error::{Error, Result};
