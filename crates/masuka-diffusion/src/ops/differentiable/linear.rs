//! y = x · Wᵀ + b + s · (x · Aᵀ) · Bᵀ with a constant W and b.

use candle_core::{D, DType, Tensor};

use super::graph::{link1, link3};
use crate::error::Result;
use crate::ops::{FrozenWeight, Then};

/// A low-rank side branch, A (rank, in) and B (out, rank).
pub(crate) struct LoraTensors<'a> {
    pub down: &'a Tensor,
    pub up: &'a Tensor,
    pub scale: f64,
}

/// x (…, in) with weight (out, in), bias (out) and a branch that may be trained, as (…, out) of `dtype`.
///
/// # Errors
/// When the shapes disagree.
pub(crate) fn linear(
    x: &Tensor,
    weight: &FrozenWeight,
    bias: Option<&Tensor>,
    lora: Option<LoraTensors<'_>>,
    dtype: DType,
) -> Result<Tensor> {
    let base = weight.forward(&x.detach(), &Then::bias(bias), dtype)?;
    let (weight, x_dtype) = (weight.clone(), x.dtype());
    let through_weight = move |grad: &Tensor| Ok(weight.backward(grad)?.to_dtype(x_dtype)?);
    let Some(LoraTensors { down, up, scale }) = lora else {
        return link1(x, base, through_weight);
    };
    let (x_needs, lora_needs) = (x.track_op(), down.track_op() || up.track_op());
    let rows = rows(&x.detach())?.to_dtype(down.dtype())?; // (n, in)
    let (a, b) = (down.detach(), up.detach());
    let hidden = rows.matmul(&a.t()?)?; // (n, rank)
    let update = (hidden.matmul(&b.t()?)? * scale)?.reshape(base.shape())?;
    let y = (base + update.to_dtype(dtype)?)?;
    let shape = x.shape().clone();
    link3([x, down, up], y, move |_, grad| {
        let wide = self::rows(grad)?.to_dtype(a.dtype())?; // (n, out)
        let narrow = (wide.matmul(&b)? * scale)?; // (n, rank)
        let dx = if x_needs {
            let through_lora = narrow.matmul(&a)?.reshape(&shape)?.to_dtype(x_dtype)?;
            Some((through_weight(grad)? + through_lora)?)
        } else {
            None
        };
        if !lora_needs {
            return Ok([dx, None, None]);
        }
        let down = narrow.t()?.matmul(&rows)?; // (rank, in)
        let up = (wide.t()?.matmul(&hidden)? * scale)?; // (out, rank)
        Ok([dx, Some(down), Some(up)])
    })
}

/// (…, d) as (n, d).
fn rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.reshape(((), x.dim(D::Minus1)?))?)
}
