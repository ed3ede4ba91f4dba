//! Scaled dot-product attention. Queries are taken in chunks, so that scores never fill an L×L buffer.

use candle_core::{DType, Tensor, WithDType};
use half::bf16;
use masuka_kernels::attention::{self as kernel, AttentionShape, Qkv, ScoreBias, Scoring, View};

use super::columns::{Columns, Held};
use super::differentiable::{self, any_tracked};
use super::slices::{self, with_slice, with_strides};
use crate::error::{Error, Result};

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
    if slices::is_for_kernels(q) {
        let (b, h, l_q, d) = q.dims4()?;
        let mut merged = Columns::new(&[b, l_q], h * d, q.dtype());
        attention_into(q, k, v, how, &mut merged)?;
        // It lies in memory as (b, l, h, d), so that merging its heads copies nothing.
        return Ok(merged.finish()?.reshape((b, l_q, h, d))?.transpose(1, 2)?);
    }
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::attention(q, k, v, how)? {
        return Ok(y);
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

/// As [`attention`] with merged heads (b, l_q, h · d), to the next columns of a wider tensor.
///
/// # Errors
/// When the shapes disagree.
pub fn attention_into(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    how: &Attention<'_>,
    to: &mut Columns,
) -> Result<()> {
    let flash = Flash { q, k, v, how };
    match to.dtype() {
        DType::BF16 => flash.run::<bf16>(to),
        _ => flash.run::<f32>(to),
    }
}

struct Flash<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    how: &'a Attention<'a>,
}

impl Flash<'_> {
    fn run<T: Held>(self, to: &mut Columns) -> Result<()> {
        let (b, h, l_q, d) = self.q.dims4()?;
        let shape = AttentionShape { b, h, l_q, l_k: self.k.dim(2)?, d };
        let others = [b, h, shape.l_k, d];
        if self.k.dims() != others || self.v.dims() != others {
            let (k, v) = (self.k.dims(), self.v.dims());
            let message = format!("keys {k:?} and values {v:?} for {:?}", self.q.dims());
            return Err(Error::Tensor(candle_core::Error::Msg(message)));
        }
        let width = to.width();
        let strides = kernel::Strides { b: l_q * width, h: d, l: width };
        let y = to.next::<T>(h * d)?;
        let [q, k, v] = [self.q, self.k, self.v].map(|x| x.to_dtype(T::DTYPE));
        let (q, k, v) = (q?, k?, v?);
        self.with_bias(shape, |bias| {
            let scale = self.how.scale.unwrap_or(1.0 / (d as f64).sqrt()) as f32;
            let scoring = Scoring { scale, bias, causal: false };
            with_view::<T, _>(&q, |q| {
                with_view(&k, |k| {
                    with_view(&v, |v| {
                        kernel::attention(shape, &Qkv { q, k, v }, &scoring, y, strides);
                        Ok(())
                    })
                })
            })
        })
    }

    fn with_bias<R>(
        &self,
        shape: AttentionShape,
        task: impl FnOnce(Option<ScoreBias<'_>>) -> Result<R>,
    ) -> Result<R> {
        let Some(bias) = self.how.bias else { return task(None) };
        let AttentionShape { l_q, l_k, h, .. } = shape;
        let heads = bias.dim(1)?;
        if bias.dims() != [1, heads, l_q, l_k] || (heads != 1 && heads != h) {
            let message = format!("a bias of {:?} for {shape:?}", bias.dims());
            return Err(Error::Tensor(candle_core::Error::Msg(message)));
        }
        with_slice(&bias.to_dtype(DType::F32)?, |data| {
            let h_stride = if heads == 1 { 0 } else { l_q * l_k };
            task(Some(ScoreBias { data, h_stride, q_stride: l_k }))
        })
    }
}

/// Lends `task` a view of x (b, h, l, d).
fn with_view<T: WithDType, R>(
    x: &Tensor,
    task: impl FnOnce(View<'_, T>) -> Result<R>,
) -> Result<R> {
    with_strides(x, |data, strides| {
        let strides = kernel::Strides { b: strides[0], h: strides[1], l: strides[2] };
        task(View { data, strides })
    })
}
