//! The gradient of attention. Scores are computed again, one chunk of queries at a time, so that they never fill an
//! L×L buffer (as in FlashAttention, arXiv:2205.14135, section 3.1 and appendix B.2).

use candle_core::{D, DType, Tensor};

use super::graph::link3;
use crate::error::{Error, Result};
use crate::ops::{self, Attention};

/// Scores held at once, in elements: 16 MiB of f32; the gradient holds four buffers of them.
const MAX_SCORES: usize = 4 << 20;

/// [`ops::attention`] of q (b, h, l_q, d) and k, v (b, h, l_k, d), without a bias.
///
/// # Errors
/// When the shapes disagree or a bias is given.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, how: &Attention<'_>) -> Result<Tensor> {
    if how.bias.is_some() {
        let message = "attention with a bias has no gradient here";
        return Err(Error::Tensor(candle_core::Error::Msg(message.into())));
    }
    let scale = how.scale.unwrap_or(1.0 / (q.dim(D::Minus1)? as f64).sqrt());
    let [q_, k_, v_] = [q.detach(), k.detach(), v.detach()];
    let y = ops::attention(&q_, &k_, &v_, &Attention { scale: Some(scale), bias: None })?;
    let dtype = q.dtype();
    link3([q, k, v], y, move |y, grad| {
        let f32 = |x: &Tensor| x.to_dtype(DType::F32)?.contiguous();
        let inputs = [f32(&q_)?, f32(&k_)?, f32(&v_)?];
        let gradients = backward(&inputs, &f32(y)?, &f32(grad)?, scale)?;
        let [dq, dk, dv] = gradients.map(|gradient| gradient.to_dtype(dtype));
        Ok([Some(dq?), Some(dk?), Some(dv?)])
    })
}

/// The gradients of q, k and v from that of the result y (b, h, l_q, d).
fn backward([q, k, v]: &[Tensor; 3], y: &Tensor, grad: &Tensor, scale: f64) -> Result<[Tensor; 3]> {
    let (b, h, l_q, _) = q.dims4()?;
    let (keys, values) = (k.t()?.contiguous()?, v.t()?.contiguous()?); // (b, h, d, l_k)
    let (mut dq, mut dk, mut dv) = (Vec::new(), k.zeros_like()?, v.zeros_like()?);
    let rows = (MAX_SCORES / (b * h * k.dim(2)?)).clamp(1, l_q);
    for start in (0..l_q).step_by(rows) {
        let part = |x: &Tensor| x.narrow(2, start, rows.min(l_q - start))?.contiguous();
        let (q, y, grad) = (part(q)?, part(y)?, part(grad)?); // (b, h, rows, d)
        let scores = (q.matmul(&keys)? * scale)?; // (b, h, rows, l_k)
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        dv = (dv + weights.t()?.matmul(&grad)?)?;
        // Of the softmax: w ∘ (dw - Σ w ∘ dw), and Σ w ∘ dw = y · dy.
        let along = (&y * &grad)?.sum_keepdim(D::Minus1)?; // (b, h, rows, 1)
        let dscores = (weights * grad.matmul(&values)?.broadcast_sub(&along)?)?;
        let dscores = (dscores * scale)?;
        dq.push(dscores.matmul(k)?);
        dk = (dk + dscores.t()?.matmul(&q)?)?;
    }
    Ok([Tensor::cat(&dq, 2)?, dk, dv])
}
