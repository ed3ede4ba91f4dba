//! Gradients on the processor as plain loops over f32 slices, one pass instead of one a term. Sums over rows are taken
//! in blocks of a fixed size, so that their bits do not depend on the number of threads.

use candle_core::{DType, Device, Shape, Storage, Tensor};
use masuka_kernels::threads::parallel_chunks;

use crate::error::{Error, Result};

/// Rows that one sum is taken over before sums are added.
const BLOCK: usize = 64;
/// Numbers that a thread takes at a time, about.
const PIECE: usize = 16 << 10;

/// Lends `task` the numbers of `tensors` on the processor in f32, in the order of their shapes.
pub(super) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    task: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let mut whole = Vec::with_capacity(N);
    for tensor in tensors {
        whole.push(tensor.to_dtype(DType::F32)?.contiguous()?);
    }
    let guards: Vec<_> = whole.iter().map(Tensor::storage_and_layout).collect();
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            return Err(Error::Device("a gradient of the processor was asked elsewhere".into()));
        };
        let start = layout.start_offset();
        *slice = &storage.as_slice::<f32>()?[start..start + layout.shape().elem_count()];
    }
    task(slices)
}

/// A tensor on the processor of what `task` writes, as `dtype`.
pub(super) fn new_tensor(
    shape: &Shape,
    dtype: DType,
    task: impl FnOnce(&mut [f32]),
) -> Result<Tensor> {
    let mut numbers = vec![0.0; shape.elem_count()];
    task(&mut numbers);
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?)
}

/// Runs `task(row, numbers of the row)` for all rows of `width` numbers.
fn for_rows(data: &mut [f32], width: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (PIECE / width).max(1);
    parallel_chunks(data, rows * width, |piece, data| {
        for (row, numbers) in data.chunks_mut(width).enumerate() {
            task(piece * rows + row, numbers);
        }
    });
}

/// What a row's LayerNorm is differentiated by.
pub(super) struct LayerNormRows<'a> {
    /// (b, l, d)
    pub x: &'a [f32],
    /// (b, d)
    pub scale: &'a [f32],
    /// (b, l, d)
    pub grad: &'a [f32],
    /// Tokens of a picture.
    pub length: usize,
    /// Channels of a token.
    pub width: usize,
    pub eps: f32,
}

impl LayerNormRows<'_> {
    /// The gradient of x, (b, l, d).
    pub(super) fn dx(&self, dx: &mut [f32]) {
        let width = self.width;
        for_rows(dx, width, |row, dx| {
            let (mean, inverse) = moments(self.row(self.x, row), self.eps);
            let (x, grad) = (self.row(self.x, row), self.row(self.grad, row));
            let scale = self.row(self.scale, row / self.length);
            let (mut sum, mut along) = (0.0, 0.0);
            for (((dx, x), grad), scale) in dx.iter_mut().zip(x).zip(grad).zip(scale) {
                let scaled = grad * (1.0 + scale);
                *dx = scaled;
                sum += scaled;
                along += scaled * (x - mean) * inverse;
            }
            let (sum, along) = (sum / width as f32, along / width as f32);
            for (dx, x) in dx.iter_mut().zip(x) {
                *dx = (*dx - sum - (x - mean) * inverse * along) * inverse;
            }
        });
    }

    /// The gradients of scale and shift, each (b, d).
    pub(super) fn dmodulation(&self) -> (Vec<f32>, Vec<f32>) {
        let width = self.width;
        let sums = sum_rows(self.grad.len() / width, self.length, 2 * width, |row, sums| {
            let (mean, inverse) = moments(self.row(self.x, row), self.eps);
            let (dscale, dshift) = sums.split_at_mut(width);
            let (x, grad) = (self.row(self.x, row), self.row(self.grad, row));
            for (((dscale, dshift), x), grad) in dscale.iter_mut().zip(dshift).zip(x).zip(grad) {
                *dscale += grad * (x - mean) * inverse;
                *dshift += grad;
            }
        });
        let halves = sums.chunks_exact(2 * width).map(|both| both.split_at(width));
        let (dscale, dshift): (Vec<_>, Vec<_>) = halves.unzip();
        (dscale.concat(), dshift.concat())
    }

    fn row<'b>(&self, values: &'b [f32], row: usize) -> &'b [f32] {
        &values[row * self.width..(row + 1) * self.width]
    }
}

fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = row.iter().sum::<f32>() / count;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// The gradient of x of RMSNorm over rows of `weight`'s length.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], grad: &[f32], eps: f32, dx: &mut [f32]) {
    let width = weight.len();
    for_rows(dx, width, |row, dx| {
        let (x, grad) = (&x[row * width..][..width], &grad[row * width..][..width]);
        let square = x.iter().map(|x| x * x).sum::<f32>() / width as f32;
        let inverse = 1.0 / (square + eps).sqrt();
        let terms = x.iter().zip(grad).zip(weight);
        let along = terms.map(|((x, grad), weight)| grad * weight * x).sum::<f32>();
        let along = along * inverse * inverse / width as f32;
        for (((dx, x), grad), weight) in dx.iter_mut().zip(x).zip(grad).zip(weight) {
            *dx = (grad * weight - x * along) * inverse;
        }
    });
}

/// The gradient of x of GELU by its tanh approximation, whose result was `y`.
pub(super) fn gelu_tanh(x: &[f32], y: &[f32], grad: &[f32], dx: &mut [f32]) {
    const CUBIC: f32 = 0.044_715;
    const SLOPE: f32 = 0.797_884_6; // √(2/π)
    parallel_chunks(dx, PIECE, |piece, dx| {
        let range = piece * PIECE..piece * PIECE + dx.len();
        let (x, y, grad) = (&x[range.clone()], &y[range.clone()], &grad[range]);
        for (((dx, &x), &y), grad) in dx.iter_mut().zip(x).zip(y).zip(grad) {
            // y = x · p with p = (1 + tanh u) / 2, so that tanh need not be taken again.
            let p = if x.abs() < 1e-3 { 0.5 + 0.5 * SLOPE * x } else { y / x };
            let du = SLOPE * (1.0 + 3.0 * CUBIC * x * x);
            *dx = grad * (p + 2.0 * x * p * (1.0 - p) * du);
        }
    });
}

/// Of x + gate · y: the gradient of y, (b, l, d).
pub(super) fn gated(grad: &[f32], gate: &[f32], length: usize, width: usize, dy: &mut [f32]) {
    for_rows(dy, width, |row, dy| {
        let gate = &gate[row / length * width..][..width];
        let grad = &grad[row * width..][..width];
        for ((dy, grad), gate) in dy.iter_mut().zip(grad).zip(gate) {
            *dy = grad * gate;
        }
    });
}

/// Σ a · b over the tokens of each picture, (b, d).
pub(super) fn sum_of_products(a: &[f32], b: &[f32], length: usize, width: usize) -> Vec<f32> {
    sum_rows(a.len() / width, length, width, |row, sums| {
        let range = row * width..(row + 1) * width;
        for ((sum, a), b) in sums.iter_mut().zip(&a[range.clone()]).zip(&b[range]) {
            *sum += a * b;
        }
    })
}

/// For each `length` of `rows` rows, the sum of what `add` adds for each of them to `width` numbers.
fn sum_rows(
    rows: usize,
    length: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let blocks = length.div_ceil(BLOCK); // of a picture
    let mut sums = vec![0.0; rows / length * blocks * width];
    parallel_chunks(&mut sums, width, |block, sums| {
        let (picture, start) = (block / blocks, block % blocks * BLOCK);
        for token in start..length.min(start + BLOCK) {
            add(picture * length + token, sums);
        }
    });
    let mut totals = vec![0.0; rows / length * width];
    for (total, sums) in totals.chunks_mut(width).zip(sums.chunks(blocks * width)) {
        for sums in sums.chunks(width) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
    }
    totals
}
