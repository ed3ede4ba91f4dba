//! Kernels for NVIDIA cards, where candle's own would pass over their numbers many times. Each takes what it can and
//! leaves the rest, as `None`, to candle: other dtypes, tensors whose gradients may be asked for, and cards below compute
//! capability 8.0. Written in CUDA C++ beside this file and compiled by the driver's libraries at the first use.

mod attention; // flash attention
mod launch; // compiling, tensors as arguments
mod pictures; // GroupNorm
mod product; // products with bias and GELU
mod rows; // norms, rotation and gated sums
#[cfg(test)]
mod tests; // against the processor

pub(super) use attention::attention;
pub(super) use pictures::{group_moments, scale_channels};
pub(super) use product::linear;
pub(super) use rows::{gated_add, modulated_layer_norm, norm_rope};
