//! Products with all that follows them, by cuBLASLt: low-rank updates, bias and GELU in the same kernels.

use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::cublaslt::{Activation, CudaBlasLT, Matmul, MatmulConfig};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, DType, Shape, Tensor};
use half::bf16;

use super::launch::{card, failed, room, tensor, with_numbers};
use crate::error::Result;
use crate::ops::differentiable::LoraTensors;

/// x (…, in) · weightᵀ (out, in) + bias (out) + Σ scale · x · Aᵀ · Bᵀ as (…, out) in bf16, then GELU (tanh) if `gelu`.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    loras: &[LoraTensors<'_>],
    gelu: bool,
) -> Result<Option<Tensor>> {
    let (out_features, in_features) = weight.dims2()?;
    let matrices =
        [x, weight].into_iter().chain(loras.iter().flat_map(|lora| [lora.down, lora.up]));
    let tensors: Vec<&Tensor> = matrices.clone().chain(bias).collect();
    // cuBLASLt wants rows that begin at multiples of 16 bytes.
    let are_wide = matrices.clone().all(|t| t.dims().last().is_some_and(|n| n % 8 == 0));
    let is_taken = are_wide
        && out_features % 8 == 0
        && x.elem_count() > 0
        && x.dims().last() == Some(&in_features)
        && tensors.iter().all(|t| t.dtype() == DType::BF16)
        && bias.is_none_or(|bias| bias.dims() == [out_features]);
    let Some(device) = card(&tensors).filter(|_| is_taken) else { return Ok(None) };
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = out_features;
    let shape = Shape::from(shape);
    let x = x.contiguous()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let mut y = room::<bf16>(&shape, &device)?;
    let plain = Product { x: &x, weight, alpha: 1.0, beta: 0.0, bias: bias.as_ref(), gelu: false };
    Product { gelu: gelu && loras.is_empty(), ..plain }.run(&mut y, &device)?;
    for (index, lora) in loras.iter().enumerate() {
        let (rank, _) = lora.down.dims2()?;
        let hidden = Shape::from((x.elem_count() / in_features, rank));
        let mut numbers = room::<bf16>(&hidden, &device)?;
        let down = Product {
            weight: lora.down,
            alpha: lora.scale as f32,
            bias: None,
            gelu: false,
            ..plain
        };
        down.run(&mut numbers, &device)?;
        let hidden = tensor(numbers, hidden, &device);
        let gelu = gelu && index + 1 == loras.len();
        let up = Product { x: &hidden, weight: lora.up, alpha: 1.0, beta: 1.0, bias: None, gelu };
        up.run(&mut y, &device)?;
    }
    Ok(Some(tensor(y, shape, &device)))
}

/// alpha · x · weightᵀ + beta · y + bias.
#[derive(Clone, Copy)]
struct Product<'a> {
    /// (rows, in), without gaps.
    x: &'a Tensor,
    /// (out, in)
    weight: &'a Tensor,
    alpha: f32,
    beta: f32,
    bias: Option<&'a Tensor>,
    gelu: bool,
}

impl Product<'_> {
    /// To y (rows, out), which is read if beta is not 0.
    fn run(self, y: &mut CudaSlice<bf16>, device: &CudaDevice) -> Result<()> {
        // One for all threads: they share its workspace, which the stream hands from product to product.
        static BLAS: Mutex<Option<CudaBlasLT>> = Mutex::new(None);
        let mut blas = BLAS.lock().unwrap_or_else(PoisonError::into_inner);
        let blas = match &mut *blas {
            Some(blas) => blas,
            empty => empty.insert(CudaBlasLT::new(device.cuda_stream()).map_err(failed)?),
        };
        // Columns first, as BLAS sees it: yᵀ (out, rows) = weight · xᵀ.
        let (m, k) = self.weight.dims2()?;
        let config = MatmulConfig {
            transa: true,
            transb: false,
            transc: false,
            m: m as u64,
            n: (self.x.elem_count() / k) as u64,
            k: k as u64,
            alpha: self.alpha,
            lda: k as i64,
            ldb: k as i64,
            beta: self.beta,
            ldc: m as i64,
            stride_a: None,
            stride_b: None,
            stride_c: None,
            stride_bias: None,
            batch_size: None,
        };
        let activation = self.gelu.then_some(Activation::Gelu);
        with_numbers::<bf16, _>(&self.weight.contiguous()?, |weight, _| {
            with_numbers::<bf16, _>(self.x, |x, _| {
                with_numbers::<bf16, _>(self.bias.unwrap_or(self.x), |bias, _| {
                    let bias = self.bias.map(|_| bias);
                    // SAFETY: the matrices have these sizes and lie without gaps.
                    let done =
                        unsafe { blas.matmul(config, weight, x, y, bias, activation.as_ref()) };
                    done.map_err(failed)
                })
            })
        })
    }
}
