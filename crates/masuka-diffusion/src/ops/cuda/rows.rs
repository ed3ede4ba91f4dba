//! What stands between the products of a transformer (`rows.cu`).

use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaDevice, DType, Shape, Tensor};
use half::bf16;

use super::launch::{
    Number, Source, THREADS, by_rows, card, failed, grid, has_kernels, int, room, tensor,
    with_numbers,
};
use crate::error::Result;
use crate::ops::HeadsPart;

static SOURCE: Source =
    Source::new("rows", concat!(include_str!("numbers.cu"), include_str!("rows.cu")));

/// As [`modulated_layer_norm`](crate::ops::modulated_layer_norm), for x, scale and shift in f32.
pub(in crate::ops) fn modulated_layer_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let in_f32 = [x, scale, shift].iter().all(|t| t.dtype() == DType::F32);
    let Some(device) = card(&[x, scale, shift]).filter(|_| in_f32 && has_kernels(dtype)) else {
        return Ok(None);
    };
    let (b, l, d) = x.dims3()?;
    let (scale, shift) =
        (by_rows(&scale.broadcast_as((b, d))?)?, by_rows(&shift.broadcast_as((b, d))?)?);
    let norm = Norm { x: &x.contiguous()?, scale: &scale, shift: &shift, eps: eps as f32 };
    if !in_fours(&[norm.x, norm.scale, norm.shift]) {
        return Ok(None);
    }
    let shape = (b, l, d);
    Ok(Some(match dtype {
        DType::BF16 => norm.run::<bf16>("modulate_bf16", shape, &device)?,
        _ => norm.run::<f32>("modulate_f32", shape, &device)?,
    }))
}

struct Norm<'a> {
    x: &'a Tensor,
    scale: &'a Tensor,
    shift: &'a Tensor,
    eps: f32,
}

impl Norm<'_> {
    fn run<Y: Number>(
        &self,
        function: &str,
        (b, l, d): (usize, usize, usize),
        device: &CudaDevice,
    ) -> Result<Tensor> {
        let shape = Shape::from((b, l, d));
        let function = SOURCE.function(function, device)?;
        let stream = device.cuda_stream();
        let config = grid(b * l, 1)?;
        let mut y = room::<Y>(&shape, device)?;
        let (l, d) = (int(l)?, int(d)?);
        with_numbers::<f32, _>(self.x, |x, _| {
            with_numbers::<f32, _>(self.scale, |scale, of_scale| {
                with_numbers::<f32, _>(self.shift, |shift, of_shift| {
                    let (scale_b, shift_b) =
                        (of_scale.stride()[0] as i64, of_shift.stride()[0] as i64);
                    let mut launch = stream.launch_builder(&function);
                    launch.arg(x).arg(scale).arg(shift).arg(&scale_b).arg(&shift_b);
                    launch.arg(&mut y).arg(&l).arg(&d).arg(&self.eps);
                    // SAFETY: the arguments are those of the kernel, which writes all of `y`.
                    unsafe { launch.launch(config) }.map_err(failed)?;
                    Ok(())
                })
            })
        })?;
        Ok(tensor(y, shape, device))
    }
}

/// As [`norm_rope`](crate::ops::norm_rope); the result lies in memory as (b, l, h, d).
pub(in crate::ops) fn norm_rope(
    parts: &[HeadsPart],
    eps: f64,
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Option<Tensor>> {
    let tensors: Vec<&Tensor> = parts.iter().flat_map(|part| [&part.x, &part.weight]).collect();
    let Some(dtype) = parts.first().map(|part| part.x.dtype()) else { return Ok(None) };
    let is_alike = parts.iter().all(|part| part.x.dtype() == dtype);
    let Some(device) = card(&tensors).filter(|_| is_alike && has_kernels(dtype)) else {
        return Ok(None);
    };
    let (b, _, h, d) = parts[0].x.dims4()?;
    let l: usize = parts.iter().map(|part| part.x.elem_count() / (b * h * d).max(1)).sum();
    let table = |t: &Tensor| t.to_dtype(DType::F32)?.broadcast_as((l, d / 2))?.contiguous();
    let (cos, sin) = (&table(cos)?, &table(sin)?);
    let heads = Heads { parts, eps: eps as f32, cos, sin };
    if !d.is_multiple_of(4) || !parts.iter().all(|part| in_fours(&[&part.x])) {
        return Ok(None);
    }
    let y = match dtype {
        DType::BF16 => heads.run::<bf16>("norm_rope_bf16", &device)?,
        _ => heads.run::<f32>("norm_rope_f32", &device)?,
    };
    Ok(Some(y.transpose(1, 2)?)) // (b, h, l, d)
}

struct Heads<'a> {
    parts: &'a [HeadsPart],
    eps: f32,
    cos: &'a Tensor,
    sin: &'a Tensor,
}

impl Heads<'_> {
    /// y (b, l, h, d)
    fn run<T: Number>(&self, function: &str, device: &CudaDevice) -> Result<Tensor> {
        const HEADS_OF_BLOCK: usize = THREADS / 32;
        let (b, _, h, d) = self.parts[0].x.dims4()?;
        let lengths =
            self.parts.iter().map(|part| Ok(part.x.dim(1)?)).collect::<Result<Vec<_>>>()?;
        let l_all: usize = lengths.iter().sum();
        let shape = Shape::from((b, l_all, h, d));
        let function = SOURCE.function(function, device)?;
        let stream = device.cuda_stream();
        let mut y = room::<T>(&shape, device)?;
        let mut before = 0;
        for (part, l) in self.parts.iter().zip(lengths) {
            let x = part.x.broadcast_as((b, l, h, d))?.contiguous()?;
            let weight = part.weight.to_dtype(DType::F32)?.broadcast_as(d)?.contiguous()?;
            let config = grid((l * h).div_ceil(HEADS_OF_BLOCK), b)?;
            let sizes = [int(l)?, int(l_all)?, int(before)?, int(h)?, int(d)?];
            before += l;
            with_numbers::<T, _>(&x, |x, _| {
                with_numbers::<f32, _>(&weight, |weight, _| {
                    with_numbers::<f32, _>(self.cos, |cos, _| {
                        with_numbers::<f32, _>(self.sin, |sin, _| {
                            let mut launch = stream.launch_builder(&function);
                            launch.arg(x).arg(weight).arg(cos).arg(sin).arg(&mut y);
                            sizes.iter().for_each(|size| {
                                launch.arg(size);
                            });
                            launch.arg(&self.eps);
                            // SAFETY: the arguments are those of the kernel, which writes the part's tokens of `y`;
                            // all parts together are all of it.
                            unsafe { launch.launch(config) }.map_err(failed)?;
                            Ok(())
                        })
                    })
                })
            })?;
        }
        Ok(tensor(y, shape, device))
    }
}

/// residual + gate · y in f32, for residual (b, l, n) and gate (b, n) in f32 and y (b, l, n).
pub(in crate::ops) fn gated_add(
    residual: &Tensor,
    gate: &Tensor,
    y: &Tensor,
) -> Result<Option<Tensor>> {
    let in_f32 = [residual, gate].iter().all(|t| t.dtype() == DType::F32);
    let is_taken = in_f32 && residual.dims() == y.dims() && y.rank() == 3;
    let Some(device) = card(&[residual, gate, y]).filter(|_| is_taken) else { return Ok(None) };
    let (b, _, n) = residual.dims3()?;
    let sum = GatedAdd {
        residual: &residual.contiguous()?,
        gate: &by_rows(&gate.broadcast_as((b, n))?)?,
        y: &y.contiguous()?,
    };
    if !in_fours(&[sum.residual, sum.gate, sum.y]) {
        return Ok(None);
    }
    match y.dtype() {
        DType::BF16 => sum.run::<bf16>("gated_add_bf16", &device).map(Some),
        DType::F32 => sum.run::<f32>("gated_add_f32", &device).map(Some),
        _ => Ok(None),
    }
}

struct GatedAdd<'a> {
    residual: &'a Tensor,
    gate: &'a Tensor,
    y: &'a Tensor,
}

impl GatedAdd<'_> {
    fn run<T: Number>(&self, function: &str, device: &CudaDevice) -> Result<Tensor> {
        let (b, l, n) = self.residual.dims3()?;
        let function = SOURCE.function(function, device)?;
        let stream = device.cuda_stream();
        let (shape, config) = (Shape::from((b, l, n)), grid(b * l, 1)?);
        let mut sum = room::<f32>(&shape, device)?;
        let (l, n) = (int(l)?, int(n)?);
        with_numbers::<f32, _>(self.residual, |residual, _| {
            with_numbers::<f32, _>(self.gate, |gate, of_gate| {
                with_numbers::<T, _>(self.y, |y, _| {
                    let gate_b = of_gate.stride()[0] as i64;
                    let mut launch = stream.launch_builder(&function);
                    launch.arg(residual).arg(gate).arg(&gate_b).arg(y);
                    launch.arg(&mut sum).arg(&l).arg(&n);
                    // SAFETY: the arguments are those of the kernel, which writes all of `sum`.
                    unsafe { launch.launch(config) }.map_err(failed)?;
                    Ok(())
                })
            })
        })?;
        Ok(tensor(sum, shape, device))
    }
}

/// Whether there are numbers, and all rows can be read in fours.
fn in_fours(tensors: &[&Tensor]) -> bool {
    let is_even = |t: &&Tensor| {
        let layout = t.layout();
        let (_, rows) = layout.stride().split_last().unwrap_or((&1, &[]));
        let last = t.dims().last().copied().unwrap_or(0);
        t.elem_count() > 0 && rows.iter().chain([&last, &layout.start_offset()]).all(|n| n % 4 == 0)
    };
    tensors.iter().all(is_even)
}
