//! Scaled dot-product attention. Queries are taken in chunks, so that scores never fill an L×L buffer.

use candle_core::{DType, Tensor};

use super::differentiable::{self, any_tracked};
use crate::error::Result;

/// Scores held at once, in elements: 64 MiB of f32.
const MAX_SCORES: usize = 16 << 20;

/// What a softmax sees besides Q·Kᵀ.
#[derive(Default)]
pub struct Attention<'a> {
    /// The factor of Q·Kᵀ; `None` is 1/√d.
    pub scale: Option<f64>,
    /// Added to the scaled scores: (1, h, l_q, l_k), or (1, 1, l_q, l_k) for all heads alike.
    pub bias: Option<&'a Tensor>,
}

/// softmax(q·kᵀ·scale + bias)·v for q (b, h, l_q, d) and k, v (b, h, l_k, d), as (b, h, l_q, d).
///
/// # Errors
/// When the shapes disagree.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, how: &Attention<'_>) -> Result<Tensor> {
    if any_tracked(&[q, k, v]) {
        return differentiable::attention(q, k, v, how);
    }
    let (b, h, l_q, d) = q.dims4()?;
    let (l_k, dtype) = (k.dim(2)?, q.dtype());
    // A processor has no 16-bit product in candle; an accelerator does, with f32 sums.
    let compute = if q.device().is_cpu() { DType::F32 } else { q.dtype() };
    let scale = how.scale.unwrap_or(1.0 / (d as f64).sqrt());
    let k = k.to_dtype(compute)?.transpose(2, 3)?.contiguous()?; // (b, h, d, l_k)
    let v = v.to_dtype(compute)?.contiguous()?;
    let rows = (MAX_SCORES / (b * h * l_k)).clamp(1, l_q);
    let mut chunks = Vec::with_capacity(l_q.div_ceil(rows));
    for start in (0..l_q).step_by(rows) {
        let count = rows.min(l_q - start);
        let q = q.narrow(2, start, count)?.to_dtype(compute)?.contiguous()?; // (b, h, rows, d)
        let mut scores = (q.matmul(&k)?.to_dtype(DType::F32)? * scale)?; // (b, h, rows, l_k)
        if let Some(bias) = how.bias {
            scores = scores.broadcast_add(&bias.narrow(2, start, count)?)?;
        }
        let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(compute)?;
        chunks.push(weights.matmul(&v)?); // (b, h, rows, d)
    }
    Ok(Tensor::cat(&chunks, 2)?.to_dtype(dtype)?)
}
