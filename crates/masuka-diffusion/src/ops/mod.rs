//! The one door to the arithmetic. A model file says what is computed; how, on which device and in which
//! precision, is decided here.
//!
//! Everything takes and returns the dtype of its input; sums, norms and softmax are taken in f32.

mod activation; // GELU, SiLU, gated residuals
mod attention; // scaled dot-product attention without an L×L buffer
mod columns; // a tensor that several operations write side by side
#[cfg(feature = "cuda")]
mod cuda; // kernels for NVIDIA cards
mod conv2d; // convolution and nearest upsampling on (b, c, y, x)
mod group_norm; // GroupNorm, whole or by moments gathered beforehand
mod linear; // x · Wᵀ + b
mod lora; // low-rank updates packed for the processor's kernels
mod packed; // weights packed for the processor's kernels
mod blocks; // GGUF blocks expanded and packed
mod norm; // LayerNorm, RMSNorm
mod rope; // rotary position embedding
mod pictures; // where the pixels of a picture lie, and reading and writing its rows
mod slices; // tensors on the processor as slices
mod then; // what follows a product in the same pass
pub(crate) mod differentiable; // the same with gradients, where an input is trained

pub use masuka_kernels::elementwise::Activation;

pub use activation::{gated_add, gelu_erf, gelu_tanh, quick_gelu, silu};
pub use attention::{Attention, attention, attention_into};
pub use blocks::pack_blocks;
pub use columns::Columns;
pub use conv2d::{Conv2dArgs, PackedConv, conv2d, upsample_nearest_2x};
pub use differentiable::seed;
pub use group_norm::{GroupMoments, Normalizations, group_norm, group_norm_silu};
pub use linear::{FrozenWeight, linear};
pub use lora::PackedLora;
pub use norm::{layer_norm, modulated_layer_norm, rms_norm};
pub use packed::{PackedWeight, Packing};
pub use pictures::{add_pixels, from_tokens, rows_of, to_tokens, write_rows, zero_picture};
pub use rope::{HeadsPart, norm_rope, rope};
pub(crate) use slices::to_f32;
pub use then::{Gate, Then};
