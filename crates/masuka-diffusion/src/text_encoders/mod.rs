//! Token ids to what a denoiser is told: T5 for every token, CLIP for the prompt as a whole.

mod config; // the sizes, by the names of `config.json`
mod shapes; // the sizes, from the shapes of a checkpoint's tensors
mod t5; // T5 v1.1, encoder only
mod clip; // CLIP's text half

pub use clip::{ClipEncoding, ClipTextEncoder};
pub use config::{ClipTextConfig, FeedForward, T5Config};
pub use t5::T5Encoder;
