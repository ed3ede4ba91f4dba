//! Checkpoints: files, names and dtypes. What a tensor is used for is the business of the model files.

mod mapped_file; // a file whose pages come and go
pub mod stored; // a tensor as its file stores it, and its way into memory
mod stored_rows; // rows of it, as its packing wants them
pub mod safetensors_file; // one safetensors file
pub mod gguf_file; // one GGUF file
pub mod checkpoint_file; // one file of either format, told apart by content
mod shards; // which files of a folder hold its weights
pub mod names; // how other projects spell the modules of our models
pub mod source; // where tensors come from, seen from a model file
pub mod checkpoint; // files and a spelling as one source
pub mod detect; // what a checkpoint is, by names and shapes: asked once, here
pub mod shapes; // sizes of a model from the shapes of its tensors
pub mod store; // `Weights`: the view that a model loads itself from
pub mod summary; // what a file says about itself, for people

pub use checkpoint::Checkpoint;
pub use detect::{Contents, Part};
pub use shapes::{FromShapes, Shapes};
pub use source::TensorSource;
pub use store::{LinearWeight, Table, Weights};
