//! What a denoiser is told of a prompt.

use candle_core::Tensor;

/// A prompt as a denoiser sees it.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// The tokens of the text encoder, (b, l_txt, d_txt).
    pub txt: Tensor,
    /// The pooled vector of the other, (b, d_pooled).
    pub pooled: Tensor,
}
