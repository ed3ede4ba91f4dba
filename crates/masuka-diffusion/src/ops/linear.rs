//! Matrix products with a weight in PyTorch's layout.

use candle_core::{DType, Tensor};

use crate::error::Result;

/// x (…, in) · weightᵀ (out, in) + bias (out) as (…, out), summed in f32.
///
/// # Errors
/// When the shapes disagree.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_features, in_features) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out_features;
    }
    let rows = x.reshape(((), in_features))?; // (rows, in)
    let y = match bias {
        // The bias is added before rounding, as a fused kernel would.
        Some(bias) if x.dtype() != DType::F32 && x.device().is_cpu() => rows
            .to_dtype(DType::F32)?
            .matmul(&weight.to_dtype(DType::F32)?.t()?)?
            .broadcast_add(&bias.to_dtype(DType::F32)?)?
            .to_dtype(x.dtype())?,
        Some(bias) => rows.matmul(&weight.t()?)?.broadcast_add(bias)?,
        None => rows.matmul(&weight.t()?)?,
    };
    Ok(y.reshape(shape)?) // (…, out)
}
