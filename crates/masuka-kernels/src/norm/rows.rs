//! LayerNorm (arXiv:1607.06450) and RMSNorm (arXiv:1910.07467) of rows.

use crate::level::Simd;
use crate::rope::mean_square;
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Vectors, Work};

/// Numbers of a task, at least one row.
const CHUNK: usize = 8192;

/// What a normalised row is multiplied by and what is added, each (b, d): the rows of a batch element share theirs.
/// For AdaLN's modulation the factor is 1 + scale.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// (b, d)
    pub factor: &'a [f32],
    /// (b, d), or empty for none.
    pub summand: &'a [f32],
}

/// out = (x - mean) / √(variance + eps) · factor + summand over rows of `d` numbers, with the biased variance.
///
/// # Panics
/// When the lengths disagree.
pub fn layer_norm<T: Number, Y: Number>(
    x: &[T],
    d: usize,
    eps: f32,
    affine: &Affine<'_>,
    out: &mut [Y],
) {
    normalize(Simd::active(), x, (d, eps, true), affine, out);
}

/// out = x / √(mean(x²) + eps) · weight over rows as long as the weight.
///
/// # Panics
/// When the lengths disagree.
pub fn rms_norm<T: Number, Y: Number>(x: &[T], weight: &[f32], eps: f32, out: &mut [Y]) {
    let affine = Affine { factor: weight, summand: &[] };
    normalize(Simd::active(), x, (weight.len(), eps, false), &affine, out);
}

/// LayerNorm where `is_centred`, else RMSNorm.
pub(super) fn normalize<T: Number, Y: Number>(
    simd: Simd,
    x: &[T],
    (d, eps, is_centred): (usize, f32, bool),
    affine: &Affine<'_>,
    out: &mut [Y],
) {
    assert_eq!(x.len(), out.len(), "as many numbers in as out");
    if x.is_empty() {
        return;
    }
    assert!(d > 0 && x.len().is_multiple_of(d), "{} numbers in rows of {d}", x.len());
    let (rows, b) = (x.len() / d, affine.factor.len() / d);
    let summands = affine.summand.len();
    assert!(b * d == affine.factor.len() && b > 0 && rows.is_multiple_of(b), "factors of {d}");
    assert!(summands == 0 || summands == b * d, "{summands} summands for {b} rows of {d}");
    let rows_per_task = (CHUNK / d).max(1);
    let out = SharedPtr::new(out);
    threads::parallel_for(rows.div_ceil(rows_per_task), |task| {
        let first = task * rows_per_task;
        for row in first..rows.min(first + rows_per_task) {
            let part = row * d..(row + 1) * d;
            let shared = row / (rows / b) * d..row / (rows / b) * d + d;
            let work = Row {
                x: &x[part.clone()],
                eps,
                is_centred,
                factor: &affine.factor[shared.clone()],
                summand: affine.summand.get(shared),
                // SAFETY: rows do not overlap.
                out: unsafe { out.slice(part.start, d) },
            };
            vector::run(simd, work);
        }
    });
}

struct Row<'a, T, Y> {
    x: &'a [T],
    eps: f32,
    is_centred: bool,
    factor: &'a [f32],
    summand: Option<&'a [f32]>,
    out: &'a mut [Y],
}

impl<T: Number, Y: Number> Work for Row<'_, T, Y> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (mean, mean_square) = if self.is_centred {
            let mean = mean(v, self.x);
            (mean, variance(v, self.x, mean))
        } else {
            (0.0, mean_square(v, self.x))
        };
        let (mean, factor) = (v.splat(mean), v.splat(1.0 / (mean_square + self.eps).sqrt()));
        let d = self.x.len();
        let mut i = 0;
        while i < d {
            // SAFETY: i < d, which all slices hold.
            unsafe {
                let x = T::load_up_to(v, self.x.as_ptr().add(i), d - i);
                let x = v.mul(v.sub(x, mean), factor);
                let factor = f32::load_up_to(v, self.factor.as_ptr().add(i), d - i);
                let y = match self.summand {
                    Some(summand) => {
                        v.mul_add(x, factor, f32::load_up_to(v, summand.as_ptr().add(i), d - i))
                    }
                    None => v.mul(x, factor),
                };
                Y::store_up_to(v, self.out.as_mut_ptr().add(i), y, d - i);
            }
            i += V::LANES;
        }
    }
}

#[inline(always)]
pub(super) fn mean<V: Vectors, T: Number>(v: V, x: &[T]) -> f32 {
    let d = x.len();
    let mut sum = v.splat(0.0);
    let mut i = 0;
    while i < d {
        // SAFETY: i < d.
        sum = v.add(sum, unsafe { T::load_up_to(v, x.as_ptr().add(i), d - i) });
        i += V::LANES;
    }
    v.sum(sum) / d as f32
}

/// The mean of (x - mean)²; a second pass, because the difference of two large sums would cancel.
#[inline(always)]
pub(super) fn variance<V: Vectors, T: Number>(v: V, x: &[T], mean: f32) -> f32 {
    let d = x.len();
    let mut sum = v.splat(0.0);
    let mut i = 0;
    while i + V::LANES <= d {
        // SAFETY: i + LANES ≤ d.
        let centred = v.sub(unsafe { T::load(v, x.as_ptr().add(i)) }, v.splat(mean));
        sum = v.mul_add(centred, centred, sum);
        i += V::LANES;
    }
    let rest: f32 = x[i..].iter().map(|x| (x.to_f32() - mean).powi(2)).sum();
    (v.sum(sum) + rest) / d as f32
}
