//! Normalisations. Statistics are f32 whatever the dtype; the result is rounded once.
//!
//! Axis key: tokens are (b, l, d); pictures are channels-last, (pixels, c).

mod reference; // what is meant
mod rows; // LayerNorm with modulation and RMSNorm, a row of d numbers at a time
mod backward; // gradients of LayerNorm with modulation
mod group; // GroupNorm: moments of a picture or of its parts, then one pass with SiLU

pub use backward::{AffineGradients, LayerNormBackward};
pub use group::{GroupMoments, GroupNormWeights, Normalization, group_norm};
pub use rows::{Affine, layer_norm, rms_norm};

#[cfg(test)]
mod tests; // every level against the plain loops
