//! LoRA (arXiv:2106.09685): low-rank side branches of linear layers, never patched into the weights.

mod slot; // where a linear layer keeps its branches
mod lora; // one adapter file: its updates, its alpha, and what was not understood
pub mod lora_formats; // how the conventions of the field spell module names
mod apply; // putting chosen adapters into the slots of a model

pub use apply::{ChosenAdapter, TensorCounts, apply};
pub use lora::{LoraAdapter, LoraUpdate, Target};
pub use slot::{AdapterSlot, LoraBranch};
