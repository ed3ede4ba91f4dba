//! The arithmetic of a processor, on plain slices: no tensor library, no picture, no environment.
//!
//! Every operation is a folder: `reference.rs` says in plain loops what is meant, one file per level of instructions
//! says it fast, and a property test compares all levels that the machine has. Operations are free functions that
//! choose the level themselves ([`Simd::active`]) and split their work over the one pool ([`threads`]) along rows and
//! columns, never along a sum, so that the result has the same bits for any number of threads.

pub mod level; // which instructions this processor has, and proofs of it
pub mod threads; // the one pool
pub mod aligned; // buffers on cache lines and huge pages; scratch that keeps its pages

#[doc(hidden)]
pub mod testing; // random numbers and comparison for property tests and benchmarks

pub use aligned::AlignedBuf;
pub use level::{Level, Simd, set_level_limit};
