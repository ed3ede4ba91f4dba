//! Autoencoders: pictures to latents and back.

pub mod config; // sizes, from a component's `config.json`
mod shapes; // sizes, from the shapes of a checkpoint's tensors
pub mod autoencoder_kl; // the autoencoder of Stable Diffusion and FLUX, top to bottom
mod encoder; // a picture to the moments of its latents
mod decoder; // latents to a picture
mod mid_block; // the lowest resolution, with attention over all of it
mod resnet_block; // two convolutions and a way around them
mod head; // the last norm and convolution of either side
mod bands; // large pictures a few rows at a time, with the result of the whole
mod preview; // latents as colours, without decoding
mod memory; // what encoding and decoding take, before any weight is loaded

pub use autoencoder_kl::{AutoencoderKl, LatentDistribution};
pub use bands::Tiling;
pub use config::AutoencoderKlConfig;
pub use preview::PreviewFactors;
