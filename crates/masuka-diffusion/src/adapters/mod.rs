//! LoRA (arXiv:2106.09685) and its kin: side branches of linear layers, never patched into the weights.

mod delta; // what an adapter adds to one matrix: products, tiles and Kronecker products
mod origin; // which tensors of the file that shape comes from
mod update; // what it does to one layer: delta, bias, magnitudes
pub mod lora_formats; // how the conventions of the field spell tensor names
mod lora; // one adapter file
mod import; // from the tensors of a file to modules
mod module; // from the tensors of a module to updates
mod report; // what a file turned out to be
mod export; // an adapter in another convention's names
mod dora; // the norms of adapted weights
mod branch; // an update beside its layer, computing
mod slot; // where a layer keeps its branches
mod apply; // putting chosen adapters into the slots of a model

pub use apply::{ChosenAdapter, Fit, Host, TensorCounts, apply};
pub use branch::{Branch, LoraBranch};
pub use delta::{Delta, Matrix};
pub use dora::{BaseLayer, BaseLayers};
pub use export::{ExportFormat, ExportedAdapter};
pub use lora::{LoraAdapter, Target, Updates};
pub use lora_formats::LoraFormat;
pub use origin::{Origin, Side};
pub use report::{BaseFamily, ImportReport, Method};
pub use slot::AdapterSlot;
pub use update::{LoraUpdate, Magnitude};
