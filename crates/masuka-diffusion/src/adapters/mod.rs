//! LoRA (arXiv:2106.09685): low-rank side branches of linear layers, never patched into the weights.

mod slot; // where a linear layer keeps its branches

pub use slot::{AdapterSlot, LoraBranch};
