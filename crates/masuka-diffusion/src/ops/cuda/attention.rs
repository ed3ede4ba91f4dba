//! Flash attention (`attention.cu`).

use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, DType, Layout, Shape, Tensor};
use half::bf16;

use super::launch::{Source, by_rows, card, failed, int, room, tensor, with_numbers};
use crate::error::Result;
use crate::ops::Attention;

static SOURCE: Source =
    Source::new("attention", concat!(include_str!("numbers.cu"), include_str!("attention.cu")));

/// As in `attention.cu`: queries of a block of threads, keys of a step, and its warps.
const QUERIES: usize = 128;
const KEYS: usize = 64;
const WARPS: usize = 4;

/// As [`attention`](crate::ops::attention), for bf16 without bias and heads of 64 or 128 numbers.
pub(in crate::ops) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    how: &Attention<'_>,
) -> Result<Option<Tensor>> {
    let (b, h, l_q, d) = q.dims4()?;
    let l_k = k.dim(2)?;
    let others = [b, h, l_k, d];
    let is_taken = how.bias.is_none()
        && matches!(d, 64 | 128)
        && [q, k, v].iter().all(|x| x.dtype() == DType::BF16)
        && l_q > 0
        && l_k > 0
        && k.dims() == others
        && v.dims() == others;
    let Some(device) = card(&[q, k, v]).filter(|_| is_taken) else { return Ok(None) };
    let [q, k, v] = [q, k, v].map(aligned);
    let scale = how.scale.unwrap_or(1.0 / (d as f64).sqrt());
    let y = run(&device, [&q?, &k?, &v?], (b, h, l_q, l_k, d), scale)?;
    Ok(Some(y.transpose(1, 2)?)) // (b, h, l_q, d)
}

/// `x` with heads whose every token begins at a multiple of 16 bytes.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let x = by_rows(x)?;
    let begins = [&x.stride()[..3], &[x.layout().start_offset()]].concat();
    Ok(if begins.iter().all(|n| n % 8 == 0) { x } else { x.copy()? })
}

/// y (b, l_q, h, d)
fn run(
    device: &CudaDevice,
    [q, k, v]: [&Tensor; 3],
    (b, h, l_q, l_k, d): (usize, usize, usize, usize, usize),
    scale: f64,
) -> Result<Tensor> {
    let function = SOURCE.function(&format!("attention_{d}"), device)?;
    let stream = device.cuda_stream();
    let shared_mem_bytes = (QUERIES + 4 * KEYS) * d * size_of::<bf16>();
    let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    function.set_attribute(attribute, int(shared_mem_bytes)?).map_err(failed)?;
    let config = LaunchConfig {
        grid_dim: (l_q.div_ceil(QUERIES) as u32, (b * h) as u32, 1),
        block_dim: (WARPS as u32 * 32, 1, 1),
        shared_mem_bytes: shared_mem_bytes as u32,
    };
    let shape = Shape::from((b, l_q, h, d));
    let mut y = room::<bf16>(&shape, device)?;
    // The kernel's exponentials are of two.
    let (h, l_q, l_k, scale) =
        (int(h)?, int(l_q)?, int(l_k)?, (scale * std::f64::consts::LOG2_E) as f32);
    with_numbers::<bf16, _>(q, |q, of_q| {
        with_numbers::<bf16, _>(k, |k, of_k| {
            with_numbers::<bf16, _>(v, |v, of_v| {
                let strides = [strides(of_q)?, strides(of_k)?, strides(of_v)?];
                let mut launch = stream.launch_builder(&function);
                launch.arg(q).arg(k).arg(v).arg(&mut y);
                for (b, h, l) in &strides {
                    launch.arg(b).arg(h).arg(l);
                }
                launch.arg(&h).arg(&l_q).arg(&l_k).arg(&scale);
                // SAFETY: the arguments are those of the kernel, which reads rows below `l_q` and `l_k` of tensors of
                // these shapes and distances, and writes all of `y`.
                unsafe { launch.launch(config) }.map_err(failed)?;
                Ok(())
            })
        })
    })?;
    Ok(tensor(y, shape, device))
}

/// Of pictures, heads and tokens.
fn strides(layout: &Layout) -> Result<(i64, i64, i32)> {
    let strides = layout.stride();
    Ok((strides[0] as i64, strides[1] as i64, int(strides[2])?))
}
