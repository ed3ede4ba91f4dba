//! Leaf modules with weights. Which precision they hold is decided by what the checkpoint store hands them.

mod activation; // the function that a configuration names
mod blocks; // a stack of blocks, resident or streamed
mod embedding; // rows of a table by token id
mod linear; // x · Wᵀ + b, whatever W is made of, with LoRA at its side
mod trained; // linear layers with their gradients, on the processor
mod norm; // LayerNorm, RMSNorm and GroupNorm with their weights
mod conv2d; // convolution with its weights
mod timestep; // sinusoidal timestep embedding

pub use activation::Activation;
pub use blocks::{Block, Blocks, Residency};
pub use conv2d::Conv2d;
pub use embedding::Embedding;
pub use linear::{Bias, Linear};
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use timestep::timestep_embedding;
pub use trained::AdapterGradients;
pub(crate) use trained::{Hidden, Matrix, TrainedLinear, Trains};
