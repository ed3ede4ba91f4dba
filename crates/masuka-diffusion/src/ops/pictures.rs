//! Where the pixels of a picture (b, c, y, x) lie. An accelerator keeps that order in memory; on the processor the
//! channels of a pixel lie beside each other, (b, y, x, c), because its convolutions run along them. The shape is the
//! same in both, only the strides differ, so nothing outside this room sees it.

use candle_core::{DType, Device, Tensor, WithDType};
use masuka_kernels::Number;
use masuka_kernels::elementwise;

use super::slices::{self, Kernel, new_tensor, with_slice};
use crate::error::Result;

/// A picture of zeros.
///
/// # Errors
/// When memory is exhausted.
pub fn zero_picture(
    (b, c, height, width): (usize, usize, usize, usize),
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    if device.is_cpu() {
        let pixels = Tensor::zeros((b, height, width, c), dtype, device)?;
        return from_pixels(&pixels);
    }
    Ok(Tensor::zeros((b, c, height, width), dtype, device)?)
}

/// The rows from `start` of a picture, which on the processor share its memory.
///
/// # Errors
/// When there are fewer.
pub fn rows_of(x: &Tensor, start: usize, count: usize) -> Result<Tensor> {
    let rows = x.narrow(2, start, count)?;
    Ok(if x.device().is_cpu() { rows } else { rows.contiguous()? })
}

/// Overwrites the rows of a picture from `start` with `rows` (b, c, rows, x).
///
/// # Errors
/// When the shapes disagree.
pub fn write_rows(x: &Tensor, rows: &Tensor, start: usize) -> Result<()> {
    let pixels = to_pixels(x)?;
    if pixels.is_contiguous() {
        pixels.slice_set(&to_pixels(rows)?.contiguous()?, 1, start)?;
    } else {
        x.slice_set(&rows.contiguous()?, 2, start)?;
    }
    Ok(())
}

/// x + y for pictures alike, in whatever order each lies.
///
/// # Errors
/// When the shapes disagree.
pub fn add_pixels(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() == y.dims()
        && x.dtype() == y.dtype()
        && let Some(sum) = slices::run_for(x, Add { x, y })
    {
        return sum;
    }
    Ok((x + y)?)
}

/// A picture (b, c, y, x) as tokens (b, y · x, c).
///
/// # Errors
/// When the device fails.
pub fn to_tokens(x: &Tensor) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    Ok(to_pixels(x)?.contiguous()?.reshape((b, height * width, c))?)
}

/// Tokens (b, y · x, c) as a picture (b, c, y, x).
///
/// # Errors
/// When the sizes disagree.
pub fn from_tokens(tokens: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (b, _, c) = tokens.dims3()?;
    let picture = from_pixels(&tokens.reshape((b, height, width, c))?)?;
    Ok(if tokens.device().is_cpu() { picture } else { picture.contiguous()? })
}

/// (b, c, y, x) as (b, y, x, c)
pub(super) fn to_pixels(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute((0, 2, 3, 1))?)
}

/// (b, y, x, c) as (b, c, y, x)
pub(super) fn from_pixels(x: &Tensor) -> Result<Tensor> {
    Ok(x.permute((0, 3, 1, 2))?)
}

struct Add<'a> {
    x: &'a Tensor,
    y: &'a Tensor,
}

impl Kernel for Add<'_> {
    type Output = Tensor;

    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        let (x, y) = (to_pixels(self.x)?, to_pixels(self.y)?);
        let sum = with_slice::<T, _>(&x, |x| {
            with_slice(&y, |y| {
                new_tensor(to_pixels(self.x)?.shape(), |sum| {
                    elementwise::add(x, y, sum);
                    Ok(())
                })
            })
        })?;
        from_pixels(&sum)
    }
}
