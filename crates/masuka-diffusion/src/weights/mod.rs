//! Checkpoints: files, names and dtypes. What a tensor is used for is the business of the model files.

pub mod safetensors_file; // one memory-mapped safetensors file
pub mod names; // how other projects spell the modules of our models
pub mod source; // where tensors come from: sharded folders and more
pub mod store; // `Weights`: the view that a model loads itself from
pub mod summary; // what a file says about itself, for people

pub use source::TensorSource;
pub use store::{LinearWeight, Weights};
