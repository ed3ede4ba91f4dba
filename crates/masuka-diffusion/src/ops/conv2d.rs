//! Convolution on pictures (b, c, y, x).

use std::fmt;

use candle_core::{DType, Tensor, WithDType};
use half::bf16;
use masuka_kernels::Number;
use masuka_kernels::conv2d::{Geometry, PackedConv2d};
use masuka_kernels::norm::Normalization;

use super::group_norm::Normalizations;
use super::pictures::{from_pixels, to_pixels};
use super::slices::{self, new_aligned_tensor, with_slice};
use crate::error::Result;

/// Input that a processor copies at once, in elements: 16 MiB of f32.
const MAX_BAND: usize = 4 << 20;

/// How a convolution walks over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dArgs {
    /// Distance between outputs, in pixels.
    pub stride: usize,
    /// Zeros added above and to the left, in pixels.
    pub padding_before: usize,
    /// Zeros added below and to the right, in pixels.
    pub padding_after: usize,
}

impl Conv2dArgs {
    /// An odd `kernel` that keeps the size of the picture.
    pub const fn same_size(kernel: usize) -> Self {
        Self { stride: 1, padding_before: kernel / 2, padding_after: kernel / 2 }
    }

    fn output_size(self, input: usize, kernel: usize) -> usize {
        ((input + self.padding_before + self.padding_after + 1).saturating_sub(kernel))
            .div_ceil(self.stride)
    }
}

/// x (b, c_in, y, x) with weight (c_out, c_in, ky, kx) and bias (c_out).
///
/// # Errors
/// When the shapes disagree.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, args: Conv2dArgs) -> Result<Tensor> {
    let bias = bias.reshape((1, (), 1, 1))?;
    if x.device().is_cpu() {
        return conv2d_in_bands(x, weight, &bias, args);
    }
    let (before, after) = (args.padding_before, args.padding_after);
    let y = if before == after {
        x.conv2d(weight, before, args.stride, 1, 1)?
    } else {
        let padded = x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
        padded.conv2d(weight, 0, args.stride, 1, 1)?
    };
    Ok(y.broadcast_add(&bias)?)
}

/// The convolution a few rows at a time: candle copies its whole input into another layout on a processor, and has
/// no 16-bit convolution there.
fn conv2d_in_bands(x: &Tensor, weight: &Tensor, bias: &Tensor, args: Conv2dArgs) -> Result<Tensor> {
    let (b, c_in, height, width) = x.dims4()?;
    let (c_out, _, kernel_y, kernel_x) = weight.dims4()?;
    let (weight, bias) = (weight.to_dtype(DType::F32)?, bias.to_dtype(DType::F32)?);
    let out_height = args.output_size(height, kernel_y);
    let out_width = args.output_size(width, kernel_x);
    let rows = (MAX_BAND / (b * c_in * width * args.stride)).max(1);
    let y = Tensor::zeros((b, c_out, out_height, out_width), x.dtype(), x.device())?;
    for start in (0..out_height).step_by(rows) {
        let count = rows.min(out_height - start);
        let first = start * args.stride; // in rows of the padded picture
        let band = padded_rows(x, first, (count - 1) * args.stride + kernel_y, args)?;
        let band = band.conv2d(&weight, 0, args.stride, 1, 1)?.broadcast_add(&bias)?;
        y.slice_set(&band.to_dtype(x.dtype())?, 2, start)?;
    }
    Ok(y)
}

/// `count` rows from `first` of x with its padding, in f32.
fn padded_rows(x: &Tensor, first: usize, count: usize, args: Conv2dArgs) -> Result<Tensor> {
    let (before, after) = (args.padding_before, args.padding_after);
    let height = x.dim(2)?;
    let start = first.saturating_sub(before);
    let end = (first + count).saturating_sub(before).min(height);
    let above = before.saturating_sub(first);
    let below = count - above - (end - start);
    let rows = x.narrow(2, start, end - start)?.contiguous()?.to_dtype(DType::F32)?;
    Ok(rows.pad_with_zeros(2, above, below)?.pad_with_zeros(3, before, after)?)
}

/// Every pixel of x (b, c, y, x) four times, as (b, c, 2y, 2x).
///
/// # Errors
/// When the device fails.
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    Ok(x.upsample_nearest2d(2 * height, 2 * width)?)
}

/// A convolution packed for the processor, with its bias. Nothing else of its weight is kept.
pub enum PackedConv {
    /// In f32.
    F32(PackedConv2d<f32>),
    /// In bf16; sums are f32.
    Bf16(PackedConv2d<bf16>),
}

impl PackedConv {
    /// Packs `weight` (c_out, c_in, k, k) and `bias` (c_out); none where the kernels do not apply. Where `doubles`, it
    /// first doubles its picture along both axes, as [`upsample_nearest_2x`].
    ///
    /// # Errors
    /// When the weight is not that of a square convolution.
    pub fn pack(
        weight: &Tensor,
        bias: &Tensor,
        args: Conv2dArgs,
        doubles: bool,
    ) -> Result<Option<Self>> {
        if !weight.device().is_cpu() {
            return Ok(None);
        }
        Ok(match weight.dtype() {
            DType::F32 => Some(Self::F32(pack(weight, bias, args, doubles)?)),
            DType::BF16 => Some(Self::Bf16(pack(weight, bias, args, doubles)?)),
            _ => None,
        })
    }

    /// x (b, c_in, y, x) as (b, c_out, y', x'), plus `residual` (b, c_out, y', x') if any.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        match self {
            Self::F32(conv) => convolve(conv, x, None, residual),
            Self::Bf16(conv) => convolve(conv, x, None, residual),
        }
    }

    /// Whether [`forward_normalized`](Self::forward_normalized) takes x.
    pub fn normalizes(&self, x: &Tensor) -> bool {
        match self {
            Self::F32(conv) => conv.normalizes() && x.dtype() == DType::F32,
            Self::Bf16(conv) => conv.normalizes() && x.dtype() == DType::BF16,
        }
    }

    /// [`forward`](Self::forward) of x normalised by `norms`; the normalised picture never lies in memory.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn forward_normalized(
        &self,
        x: &Tensor,
        norms: &Normalizations,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        match self {
            Self::F32(conv) => convolve(conv, x, Some(&norms.0), residual),
            Self::Bf16(conv) => convolve(conv, x, Some(&norms.0), residual),
        }
    }
}

impl fmt::Debug for PackedConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(conv) => f.debug_tuple("F32").field(&conv.geometry()).finish(),
            Self::Bf16(conv) => f.debug_tuple("Bf16").field(&conv.geometry()).finish(),
        }
    }
}

fn pack<T: Number + WithDType>(
    weight: &Tensor,
    bias: &Tensor,
    args: Conv2dArgs,
    doubles: bool,
) -> Result<PackedConv2d<T>> {
    let (c_out, c_in, kernel, _) = weight.dims4()?;
    let Conv2dArgs { stride, padding_before, padding_after } = args;
    let geometry = Geometry { c_in, c_out, kernel, stride, padding_before, padding_after };
    let bias = slices::to_f32(bias)?;
    with_slice(weight, |weight| {
        Ok(match doubles {
            true => PackedConv2d::upsampling(weight, &bias, geometry),
            false => PackedConv2d::new(weight, &bias, geometry),
        })
    })
}

fn convolve<T: Number + WithDType>(
    conv: &PackedConv2d<T>,
    x: &Tensor,
    norms: Option<&[Normalization]>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, c_in, height, width) = x.dims4()?;
    let (out_height, out_width) = conv.output_size(height, width);
    let Geometry { c_in: wanted, c_out, .. } = conv.geometry();
    let shape = (b, out_height, out_width, c_out);
    let residual = residual.map(to_pixels).transpose()?;
    let is_norm_of_x = norms
        .is_none_or(|norms| norms.len() == b && norms.iter().all(|norm| norm.channels() == c_in));
    let is_like_y = residual.as_ref().is_none_or(|y| y.dims() == <[usize; 4]>::from(shape));
    if c_in != wanted || !is_norm_of_x || !is_like_y {
        let message = format!("a picture of {:?} for {:?}", x.dims(), conv.geometry());
        return Err(candle_core::Error::Msg(message).into());
    }
    let x = to_pixels(&x.to_dtype(T::DTYPE)?)?;
    let y = with_slice::<T, _>(&x, |x| {
        with_optional_slice(residual.as_ref(), |residual: Option<&[T]>| {
            new_aligned_tensor(shape, |y: &mut [T]| {
                let out_size = out_height * out_width * c_out;
                for (i, y) in y.chunks_exact_mut(out_size.max(1)).enumerate() {
                    let x = &x[i * height * width * c_in..][..height * width * c_in];
                    let residual = residual.map(|residual| &residual[i * out_size..][..out_size]);
                    match norms.map(|norms| &norms[i]) {
                        None => conv.forward(x, (height, width), residual, y),
                        Some(norm) => {
                            conv.forward_normalized(x, norm, (height, width), residual, y);
                        }
                    }
                }
                Ok(())
            })
        })
    })?;
    from_pixels(&y)
}

fn with_optional_slice<T: WithDType, R>(
    x: Option<&Tensor>,
    task: impl FnOnce(Option<&[T]>) -> Result<R>,
) -> Result<R> {
    match x {
        Some(x) => with_slice(x, |x| task(Some(x))),
        None => task(None),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1f32, shape, &Device::Cpu).expect("a tensor")
    }

    /// candle's own convolution of the whole picture.
    fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor, args: Conv2dArgs) -> Result<Tensor> {
        let (before, after) = (args.padding_before, args.padding_after);
        let padded = x.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
        let y = padded.conv2d(weight, 0, args.stride, 1, 1)?;
        Ok(y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?)
    }

    fn check(shape: [usize; 4], kernel: usize, args: Conv2dArgs) -> Result<()> {
        let (x, bias) = (random(&shape), random(&[5]));
        let weight = random(&[5, shape[1], kernel, kernel]);
        let difference = (conv2d(&x, &weight, &bias, args)? - plain(&x, &weight, &bias, args)?)?;
        let largest = difference.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        assert!(largest < 1e-3, "{shape:?} with kernel {kernel}, {args:?} is off by {largest}");
        Ok(())
    }

    #[test]
    fn bands_equal_the_whole_convolution() -> Result<()> {
        let halving = Conv2dArgs { stride: 2, padding_before: 0, padding_after: 1 };
        // The last shape of each needs several bands.
        for shape in [[2, 3, 7, 5], [1, 4, 1, 9], [1, 256, 15, 2049]] {
            check(shape, 3, Conv2dArgs::same_size(3))?;
            check(shape, 1, Conv2dArgs::same_size(1))?;
        }
        for shape in [[2, 3, 7, 6], [1, 256, 34, 1025]] {
            check(shape, 3, halving)?;
        }
        Ok(())
    }

    #[test]
    fn packed_convolutions_equal_plain_ones() -> Result<()> {
        let halving = Conv2dArgs { stride: 2, padding_before: 0, padding_after: 1 };
        let same = Conv2dArgs::same_size;
        for (shape, c_out, kernel, args, doubles) in [
            ([2, 3, 7, 6], 5, 3, same(3), false),
            ([1, 64, 9, 8], 64, 3, same(3), false),
            ([2, 16, 6, 4], 8, 1, same(1), false),
            ([2, 8, 6, 4], 8, 3, halving, false),
            ([2, 6, 5, 7], 6, 3, same(3), true),
        ] {
            let (x, bias) = (random(&shape), random(&[c_out]));
            let weight = random(&[c_out, shape[1], kernel, kernel]);
            let seen = if doubles { upsample_nearest_2x(&x)? } else { x.clone() };
            let expected = plain(&seen, &weight, &bias, args)?;
            let residual = expected.ones_like()?;
            let conv = PackedConv::pack(&weight, &bias, args, doubles)?.expect("it is in f32");
            let difference = (conv.forward(&x, Some(&residual))? - expected)?;
            let largest = (difference - 1.0)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(largest < 1e-3, "{shape:?}, {args:?}, doubling {doubles}, is off by {largest}");
        }
        Ok(())
    }
}
