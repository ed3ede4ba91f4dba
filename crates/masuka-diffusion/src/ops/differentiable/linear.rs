//! y = x · Wᵀ + b + s · (x · Aᵀ) · Bᵀ with a constant W and b.

use candle_core::{D, Tensor};

use super::graph::{link1, link3};
use crate::error::Result;
use crate::ops;

/// A low-rank side branch, A (rank, in) and B (out, rank).
pub(crate) struct LoraTensors<'a> {
    pub down: &'a Tensor,
    pub up: &'a Tensor,
    pub scale: f64,
}

/// x (…, in) with weight (out, in), bias (out) and a branch that may be trained.
///
/// # Errors
/// When the shapes disagree.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    lora: Option<LoraTensors<'_>>,
) -> Result<Tensor> {
    let base = ops::linear(&x.detach(), weight, bias)?;
    let weight = weight.clone();
    let Some(LoraTensors { down, up, scale }) = lora else {
        return link1(x, base, move |grad| times_weight(grad, &weight));
    };
    let (x_needs, lora_needs) = (x.track_op(), down.track_op() || up.track_op());
    let rows = rows(&x.detach())?.to_dtype(down.dtype())?; // (n, in)
    let (a, b) = (down.detach(), up.detach());
    let hidden = rows.matmul(&a.t()?)?; // (n, rank)
    let update = (hidden.matmul(&b.t()?)? * scale)?.reshape(base.shape())?;
    let y = (base + update.to_dtype(x.dtype())?)?;
    let shape = x.shape().clone();
    link3([x, down, up], y, move |_, grad| {
        let wide = self::rows(grad)?.to_dtype(a.dtype())?; // (n, out)
        let narrow = (wide.matmul(&b)? * scale)?; // (n, rank)
        let dx = if x_needs {
            let through_lora = narrow.matmul(&a)?.reshape(&shape)?.to_dtype(grad.dtype())?;
            Some((times_weight(grad, &weight)? + through_lora)?)
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

/// grad (…, out) · weight (out, in).
fn times_weight(grad: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (_, in_features) = weight.dims2()?;
    let mut shape = grad.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = in_features;
    }
    Ok(rows(grad)?.matmul(&weight.to_dtype(grad.dtype())?)?.reshape(shape)?)
}

/// (…, d) as (n, d).
fn rows(x: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.reshape(((), x.dim(D::Minus1)?))?)
}
