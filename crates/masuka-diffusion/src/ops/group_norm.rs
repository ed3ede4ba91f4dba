//! GroupNorm (arXiv:1803.08494) of pictures (b, c, y, x). Its moments can be gathered from parts of a picture, so
//! that a picture may be normalised in bands of rows as if it were whole.

use candle_core::{D, DType, Tensor, WithDType};
use masuka_kernels::Number;
use masuka_kernels::elementwise::Activation;
use masuka_kernels::norm::{self as kernels, GroupNormWeights};

use super::pictures::{from_pixels, to_pixels};
use super::slices::{self, Kernel, new_tensor, with_slice};
use crate::error::Result;

/// Elements taken at once, so that what lies between two steps stays small: 16 MiB of f32.
const MAX_BAND: usize = 4 << 20;

/// Mean and spread of each group of channels.
pub enum GroupMoments {
    /// By the processor's kernels, of each picture of the batch.
    Kernels(Vec<kernels::GroupMoments>),
    /// By candle.
    Tensors(TensorMoments),
}

impl GroupMoments {
    /// The moments of x (b, c, y, x) in `groups` groups of channels.
    ///
    /// # Errors
    /// When `groups` does not divide the channels.
    pub fn of(x: &Tensor, groups: usize) -> Result<Self> {
        if x.dim(1)? % groups != 0 {
            let message = format!("{} channels in {groups} groups", x.dim(1)?);
            return Err(candle_core::Error::Msg(message).into());
        }
        match slices::run_for(x, Moments { x, groups }) {
            Some(moments) => Ok(Self::Kernels(moments?)),
            None => Ok(Self::Tensors(TensorMoments::of(x, groups)?)),
        }
    }

    /// The moments of a picture from those of its parts.
    ///
    /// # Errors
    /// When `parts` is empty or the parts disagree in batch, groups or device.
    pub fn merge(parts: &[Self]) -> Result<Self> {
        let by_kernels = parts.iter().map(|part| match part {
            Self::Kernels(moments) => Some(moments),
            Self::Tensors(_) => None,
        });
        if let Some(parts) = by_kernels.collect::<Option<Vec<_>>>()
            && let Some(first) = parts.first()
        {
            let merge = |i: usize| {
                let parts = parts.iter().filter_map(|part| part.get(i).cloned());
                kernels::GroupMoments::merge(&parts.collect::<Vec<_>>())
            };
            return Ok(Self::Kernels((0..first.len()).map(merge).collect()));
        }
        let by_tensors = parts.iter().filter_map(|part| match part {
            Self::Kernels(_) => None,
            Self::Tensors(moments) => Some(moments),
        });
        Ok(Self::Tensors(TensorMoments::merge(&by_tensors.collect::<Vec<_>>())?))
    }
}

/// SiLU of a GroupNorm as the processor's convolutions take it, of each picture of a batch.
pub struct Normalizations(pub(super) Vec<kernels::Normalization>);

impl Normalizations {
    /// Of the norm by `moments` with weight and bias (c); none where they are not the processor's.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn silu(
        moments: &GroupMoments,
        weight: &Tensor,
        bias: &Tensor,
        eps: f64,
    ) -> Result<Option<Self>> {
        let GroupMoments::Kernels(moments) = moments else { return Ok(None) };
        let (weight, bias) = (slices::to_f32(weight)?, slices::to_f32(bias)?);
        let weights = GroupNormWeights { weight: &weight, bias: &bias, eps };
        let silu = Some(Activation::Silu);
        let pictures = moments.iter().map(|moments| moments.normalization(&weights, silu));
        Ok(Some(Self(pictures.collect())))
    }
}

/// The moments of each picture of x (b, c, y, x).
struct Moments<'a> {
    x: &'a Tensor,
    groups: usize,
}

impl Kernel for Moments<'_> {
    type Output = Vec<kernels::GroupMoments>;

    fn run<T: Number + WithDType>(self) -> Result<Self::Output> {
        let (b, c, height, width) = self.x.dims4()?;
        with_slice::<T, _>(&to_pixels(self.x)?, |x| {
            let pictures = x.chunks_exact(height * width * c).take(b);
            Ok(pictures.map(|x| kernels::GroupMoments::of(x, c, self.groups)).collect())
        })
    }
}

/// The same as tensors, in f32.
pub struct TensorMoments {
    /// (b, g)
    mean: Tensor,
    /// The sum of (x - mean)², (b, g).
    squares: Tensor,
    /// Elements of each group.
    count: usize,
}

impl TensorMoments {
    fn of(x: &Tensor, groups: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Some((mean, squares)) = super::cuda::group_moments(x, groups)? {
            return Ok(Self { mean, squares, count: x.elem_count() / (x.dim(0)? * groups) });
        }
        let bands = row_bands(x)?.map(|(start, rows)| Self::of_band(x, groups, start, rows));
        Self::merge(&bands.collect::<Result<Vec<_>>>()?.iter().collect::<Vec<_>>())
    }

    fn of_band(x: &Tensor, groups: usize, start: usize, rows: usize) -> Result<Self> {
        let b = x.dim(0)?;
        let band = x.narrow(2, start, rows)?.to_dtype(DType::F32)?;
        let band = band.reshape((b, groups, ()))?; // (b, g, c/g · rows · x)
        let mean = band.mean_keepdim(D::Minus1)?;
        let squares = band.broadcast_sub(&mean)?.sqr()?.sum(D::Minus1)?;
        Ok(Self { mean: mean.squeeze(D::Minus1)?, squares, count: band.dim(2)? })
    }

    /// Without the cancellation of a plain sum of squares
    /// (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm", 1979).
    fn merge(parts: &[&Self]) -> Result<Self> {
        let count = parts.iter().map(|part| part.count).sum::<usize>();
        let shares = parts.iter().map(|part| &part.mean * (part.count as f64 / count as f64));
        let mean = sum(shares)?; // (b, g)
        let squares = sum(parts.iter().map(|part| {
            let between = ((&part.mean - &mean)?.sqr()? * part.count as f64)?;
            &part.squares + between
        }))?;
        Ok(Self { mean, squares, count })
    }

    /// The factor and the summand of each channel that normalise it and apply weight and bias (c), (b, c, 1, 1).
    fn affine(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
        let (b, groups) = self.mean.dims2()?;
        let per_group = (1, groups, ());
        let weight = weight.to_dtype(DType::F32)?.reshape(per_group)?; // (1, g, c/g)
        let bias = bias.to_dtype(DType::F32)?.reshape(per_group)?; // (1, g, c/g)
        let variance = (&self.squares / self.count as f64)?;
        let factor = (variance + eps)?.sqrt()?.recip()?.unsqueeze(2)?.broadcast_mul(&weight)?;
        let shift = factor.broadcast_mul(&self.mean.unsqueeze(2)?)?; // (b, g, c/g)
        let summand = bias.broadcast_sub(&shift)?; // (b, g, c/g)
        Ok((factor.reshape((b, (), 1, 1))?, summand.reshape((b, (), 1, 1))?))
    }
}

/// GroupNorm of x (b, c, y, x) by `moments`, with weight and bias (c).
///
/// # Errors
/// When the shapes disagree.
pub fn group_norm(
    x: &Tensor,
    moments: &GroupMoments,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let norm = Norm { moments, weight, bias, eps };
    norm.apply(x, None, Ok)
}

/// SiLU of the GroupNorm of x (b, c, y, x) by `moments`, rounded once.
///
/// # Errors
/// When the shapes disagree.
pub fn group_norm_silu(
    x: &Tensor,
    moments: &GroupMoments,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let norm = Norm { moments, weight, bias, eps };
    norm.apply(x, Some(Activation::Silu), |y| y.silu())
}

/// What a picture is normalised by.
struct Norm<'a> {
    moments: &'a GroupMoments,
    weight: &'a Tensor,
    bias: &'a Tensor,
    eps: f64,
}

impl Norm<'_> {
    fn apply(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
        candle: impl Fn(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        match self.moments {
            GroupMoments::Tensors(moments) => {
                let (factor, summand) = moments.affine(self.weight, self.bias, self.eps)?;
                #[cfg(feature = "cuda")]
                if let Some(y) =
                    super::cuda::scale_channels(x, &factor, &summand, activation.is_some())?
                {
                    return Ok(y);
                }
                normalize(x, (factor, summand), candle)
            }
            GroupMoments::Kernels(moments) => {
                let (weight, bias) = (slices::to_f32(self.weight)?, slices::to_f32(self.bias)?);
                let weights = GroupNormWeights { weight: &weight, bias: &bias, eps: self.eps };
                let y = slices::run_for(x, Apply { x, moments, weights, activation });
                y.unwrap_or_else(|| {
                    let message = "moments of the processor for another's picture";
                    Err(candle_core::Error::Msg(message.into()).into())
                })
            }
        }
    }
}

/// The norm of each picture of x (b, c, y, x).
struct Apply<'a> {
    x: &'a Tensor,
    moments: &'a [kernels::GroupMoments],
    weights: GroupNormWeights<'a>,
    activation: Option<Activation>,
}

impl Kernel for Apply<'_> {
    type Output = Tensor;

    fn run<T: Number + WithDType>(self) -> Result<Tensor> {
        let pixels = to_pixels(self.x)?;
        let size = pixels.elem_count() / self.moments.len().max(1);
        let y = with_slice::<T, _>(&pixels, |x| {
            new_tensor(pixels.shape(), |y: &mut [T]| {
                let pictures = x.chunks_exact(size).zip(y.chunks_exact_mut(size));
                for ((x, y), moments) in pictures.zip(self.moments) {
                    kernels::group_norm(x, moments, &self.weights, self.activation, y);
                }
                Ok(())
            })
        })?;
        from_pixels(&y)
    }
}

fn normalize(
    x: &Tensor,
    (factor, summand): (Tensor, Tensor),
    activation: impl Fn(Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    let y = Tensor::zeros(x.shape(), x.dtype(), x.device())?;
    for (start, rows) in row_bands(x)? {
        let band = x.narrow(2, start, rows)?.to_dtype(DType::F32)?.contiguous()?;
        let band = activation(band.broadcast_mul(&factor)?.broadcast_add(&summand)?)?;
        y.slice_set(&band.to_dtype(x.dtype())?, 2, start)?;
    }
    Ok(y)
}

/// Start and length of bands of rows of x (b, c, y, x); an accelerator takes all rows at once.
fn row_bands(x: &Tensor) -> Result<impl Iterator<Item = (usize, usize)> + use<>> {
    let (b, c, height, width) = x.dims4()?;
    let rows = if x.device().is_cpu() { (MAX_BAND / (b * c * width)).max(1) } else { height };
    Ok((0..height).step_by(rows).map(move |start| (start, rows.min(height - start))))
}

fn sum(
    mut terms: impl Iterator<Item = candle_core::Result<Tensor>>,
) -> candle_core::Result<Tensor> {
    let first = terms.next().ok_or(candle_core::Error::Msg("a picture has no rows".into()))??;
    terms.try_fold(first, |total, term| total + term?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// GroupNorm as its paper writes it, in f64.
    fn reference(x: &Tensor, groups: usize, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let (b, c, height, width) = x.dims4()?;
        let x = x.to_dtype(DType::F64)?.reshape((b, groups, ()))?;
        let centred = x.broadcast_sub(&x.mean_keepdim(2)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?;
        let y = centred.broadcast_div(&deviation)?.reshape((b, c, height, width))?;
        let weight = weight.to_dtype(DType::F64)?.reshape((1, c, 1, 1))?;
        let bias = bias.to_dtype(DType::F64)?.reshape((1, c, 1, 1))?;
        Ok(y.broadcast_mul(&weight)?.broadcast_add(&bias)?)
    }

    #[test]
    fn moments_of_bands_normalise_the_whole_picture() -> Result<()> {
        // The last shape needs several bands.
        for (shape, groups) in [([2, 6, 5, 7], 3), ([1, 4, 1, 1], 2), ([1, 64, 70, 1025], 32)] {
            // Groups of two numbers that chance made alike would be stretched beyond any bound.
            let places =
                Tensor::arange(0_u32, shape.iter().product::<usize>() as u32, &Device::Cpu)?;
            let x = ((places.to_dtype(DType::F32)? * 0.37)?.sin()?.reshape(&shape)? + 3.0)?;
            let weight = Tensor::randn(0f32, 1f32, shape[1], &Device::Cpu)?;
            let bias = Tensor::randn(0f32, 1f32, shape[1], &Device::Cpu)?;
            let y = group_norm(&x, &GroupMoments::of(&x, groups)?, &weight, &bias, 1e-6)?;
            let difference =
                (y.to_dtype(DType::F64)? - reference(&x, groups, &weight, &bias)?)?.abs()?;
            let largest = difference.flatten_all()?.max(0)?.to_scalar::<f64>()?;
            assert!(largest < 2e-5, "{shape:?} is off by {largest}");
        }
        Ok(())
    }
}
