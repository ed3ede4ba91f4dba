//! The arithmetic of a processor, on plain slices: no tensor library, no picture, no environment.
//!
//! Every operation is a folder: `reference.rs` says in plain loops what is meant, one file per level of instructions
//! says it fast, and a property test compares all levels that the machine has. Operations are free functions that
//! choose the level themselves ([`Simd::active`], or that which a weight was packed for) and split their work over the one pool ([`threads`]) along rows and
//! columns, never along a sum, so that the result has the same bits for any number of threads.

pub mod level; // which instructions this processor has, and proofs of it
pub mod threads; // the one pool
pub mod aligned; // buffers on cache lines and huge pages; scratch that keeps its pages
pub mod memory; // how the allocator treats large blocks
pub mod rows; // matrices as the caller holds them
mod vector; // vectors of f32 as a trait that each level implements
mod panels; // packing of the right side of a product
mod token_blocks; // sums over the tokens of a picture
mod tile; // products of small blocks in the cache
#[cfg(target_arch = "x86_64")]
mod amx; // tiles of AMX, for these and for whole products
pub mod linear; // x · Wᵀ + b with packed weights, and what follows it
pub mod low_rank; // both halves of a LoRA update and the gradients of its two matrices
pub mod linear_int8; // the same with weights and rows in int8
pub mod elementwise; // activations, sums, gated residuals
pub mod softmax; // over rows
pub mod norm; // LayerNorm with modulation, RMSNorm, GroupNorm with SiLU
pub mod rope; // rotary embedding, after the RMSNorm of queries and keys where wanted
pub mod attention; // softmax(q·kᵀ·scale + bias)·v without an l × l buffer
pub mod conv2d; // convolution, twofold upsampling included

#[doc(hidden)]
pub mod testing; // random numbers and comparison for property tests and benchmarks

pub use aligned::AlignedBuf;
pub use level::{Level, Simd, set_level_limit};
pub use rows::{Rows, RowsMut};
pub use vector::Number;
