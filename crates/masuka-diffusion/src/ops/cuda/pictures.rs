//! GroupNorm of pictures (`pictures.cu`).

use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaDevice, DType, Shape, Tensor};
use half::bf16;

use super::launch::{Number, Source, THREADS, card, failed, grid, int, room, tensor, with_numbers};
use crate::error::Result;

static SOURCE: Source =
    Source::new("pictures", concat!(include_str!("numbers.cu"), include_str!("pictures.cu")));

/// Numbers of a part whose moments one block takes.
const PART: usize = 1 << 15;

/// Mean and sum of (x - mean)², both (b, g) in f32, of each group of channels of x (b, c, y, x).
pub(in crate::ops) fn group_moments(x: &Tensor, groups: usize) -> Result<Option<(Tensor, Tensor)>> {
    let Some(device) = card(&[x]) else { return Ok(None) };
    let b = x.dim(0)?;
    let x = x.contiguous()?;
    let count = x.elem_count() / (b * groups).max(1);
    if !count.is_multiple_of(4) || !is_in_fours(&x) {
        return Ok(None);
    }
    let moments = Moments { x: &x, shape: (b, groups), count };
    match x.dtype() {
        DType::BF16 => moments.run::<bf16>("moments_of_part_bf16", &device).map(Some),
        DType::F32 => moments.run::<f32>("moments_of_part_f32", &device).map(Some),
        _ => Ok(None),
    }
}

struct Moments<'a> {
    x: &'a Tensor,
    /// Pictures and groups.
    shape: (usize, usize),
    /// Numbers of each group.
    count: usize,
}

impl Moments<'_> {
    fn run<T: Number>(&self, function: &str, device: &CudaDevice) -> Result<(Tensor, Tensor)> {
        let (b, groups) = self.shape;
        let parts = self.count.div_ceil(PART);
        let shape_of_parts = Shape::from((b, groups, parts));
        let (mut means, mut all_squares) =
            (room::<f32>(&shape_of_parts, device)?, room::<f32>(&shape_of_parts, device)?);
        let shape = Shape::from((b, groups));
        let (mut mean, mut squares) = (room::<f32>(&shape, device)?, room::<f32>(&shape, device)?);
        let (of_part, merge) =
            (SOURCE.function(function, device)?, SOURCE.function("merge_moments", device)?);
        let stream = device.cuda_stream();
        let (count, part) = (int(self.count)?, int(PART)?);
        let (of_parts, of_groups) = (grid(parts, b * groups)?, grid(b * groups, 1)?);
        with_numbers::<T, _>(self.x, |x, _| {
            let mut launch = stream.launch_builder(&of_part);
            launch.arg(x).arg(&mut means).arg(&mut all_squares).arg(&count).arg(&part);
            // SAFETY: the arguments are those of the kernel, which writes all of `means` and `all_squares`.
            unsafe { launch.launch(of_parts) }.map_err(failed)?;
            Ok(())
        })?;
        let parts = int(parts)?;
        let mut launch = stream.launch_builder(&merge);
        launch.arg(&means).arg(&all_squares).arg(&mut mean).arg(&mut squares);
        launch.arg(&parts).arg(&count).arg(&part);
        // SAFETY: the arguments are those of the kernel, which writes all of `mean` and `squares`.
        unsafe { launch.launch(of_groups) }.map_err(failed)?;
        Ok((tensor(mean, shape.clone(), device), tensor(squares, shape, device)))
    }
}

/// x · factor + summand, then SiLU if `silu`, for x (b, c, y, x) and factor and summand (b, c, 1, 1) in f32.
pub(in crate::ops) fn scale_channels(
    x: &Tensor,
    factor: &Tensor,
    summand: &Tensor,
    silu: bool,
) -> Result<Option<Tensor>> {
    let Some(device) = card(&[x, factor, summand]) else { return Ok(None) };
    let (b, c, height, width) = x.dims4()?;
    let scaling = Scaling {
        x: &x.contiguous()?,
        factor: &factor.broadcast_as((b, c, 1, 1))?.contiguous()?,
        summand: &summand.broadcast_as((b, c, 1, 1))?.contiguous()?,
        silu: i32::from(silu),
    };
    if !(height * width).is_multiple_of(4) || !is_in_fours(scaling.x) {
        return Ok(None);
    }
    match x.dtype() {
        DType::BF16 => scaling.run::<bf16>("scale_bf16", &device).map(Some),
        DType::F32 => scaling.run::<f32>("scale_f32", &device).map(Some),
        _ => Ok(None),
    }
}

struct Scaling<'a> {
    x: &'a Tensor,
    factor: &'a Tensor,
    summand: &'a Tensor,
    silu: i32,
}

impl Scaling<'_> {
    fn run<T: Number>(&self, function: &str, device: &CudaDevice) -> Result<Tensor> {
        let (b, c, height, width) = self.x.dims4()?;
        let pixels = height * width;
        let function = SOURCE.function(function, device)?;
        let stream = device.cuda_stream();
        let config = grid(pixels.div_ceil(4 * THREADS), b * c)?;
        let shape = self.x.shape().clone();
        let mut y = room::<T>(&shape, device)?;
        let pixels = int(pixels)?;
        with_numbers::<T, _>(self.x, |x, _| {
            with_numbers::<f32, _>(self.factor, |factor, _| {
                with_numbers::<f32, _>(self.summand, |summand, _| {
                    let mut launch = stream.launch_builder(&function);
                    launch.arg(x).arg(factor).arg(summand).arg(&mut y).arg(&pixels).arg(&self.silu);
                    // SAFETY: the arguments are those of the kernel, which writes all of `y`.
                    unsafe { launch.launch(config) }.map_err(failed)?;
                    Ok(())
                })
            })
        })?;
        Ok(tensor(y, shape, device))
    }
}

/// Whether there are numbers, and they begin at a multiple of four.
fn is_in_fours(x: &Tensor) -> bool {
    x.elem_count() > 0 && x.layout().start_offset().is_multiple_of(4)
}
