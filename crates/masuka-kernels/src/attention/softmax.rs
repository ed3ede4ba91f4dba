//! One row of a block of scores to weights, with the running maximum and sum of the row
//! (online softmax, arXiv:1805.02867). Scores are kept in powers of two: s·log₂e.

use std::f32::consts::LOG2_E;

use crate::vector::{Number, Product, Vectors};

/// The widest vector of any level.
const MOST_LANES: usize = 16;

/// A row of one block.
pub(super) struct Row<T> {
    /// Products of the query with the keys; overwritten.
    pub scores: *mut f32,
    /// Keys that the query sees.
    pub seen: usize,
    /// Keys of the block; the weights of those not seen are zero.
    pub keys: usize,
    /// The factor of the products.
    pub scale: f32,
    /// Added to the scaled products, if not null.
    pub bias: *const f32,
    /// Where the weights go, `keys` of them and zeros to the end of the vector. It may be where the scores are: no
    /// weight is wider than a score.
    pub weights: *mut T,
}

/// What is known of a query's scores so far.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// What weights are relative to: the highest score so far, or a bound of all.
    pub maximum: f32,
    /// No score is above the maximum.
    pub bounded: bool,
    pub sum: f32,
}

impl Running {
    pub const START: Self = Self { maximum: f32::NEG_INFINITY, bounded: false, sum: 0.0 };

    /// Of a query whose products with keys, times the factor, are all below `bound` powers of two; without bias.
    pub fn below(bound: f32) -> Self {
        Self { maximum: bound, bounded: true, sum: 0.0 }
    }
}

/// Writes the weights relative to the new maximum, and returns the factor for what was weighted by the old one.
///
/// # Safety
/// Scores and weights must have room for `keys` rounded up to a vector, the bias for `seen`.
#[inline(always)]
pub(super) unsafe fn weigh<V: Vectors, T: Number>(
    v: V,
    row: &Row<T>,
    running: &mut Running,
) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        if running.bounded {
            running.sum += write_weights(v, row, row.scale * LOG2_E, running.maximum);
            return 1.0;
        }
        let (factor, highest) = scaled_maximum(v, row);
        let before = running.maximum;
        running.maximum = before.max(highest);
        let origin = if running.maximum == f32::NEG_INFINITY { 0.0 } else { running.maximum };
        let sum = write_weights(v, row, factor, origin);
        let rescale = if before == running.maximum { 1.0 } else { (before - origin).exp2() };
        running.sum = running.sum * rescale + sum;
        rescale
    }
}

/// The factor that still has to be applied to the scores, and the highest score with it.
#[inline(always)]
unsafe fn scaled_maximum<V: Vectors, T: Number>(v: V, row: &Row<T>) -> (f32, f32) {
    let scale = row.scale * LOG2_E;
    // SAFETY: the caller's promise.
    unsafe {
        if row.bias.is_null() && scale >= 0.0 {
            return (scale, scale * maximum(v, row.scores, row.seen));
        }
        let mut j = 0;
        while j < row.seen {
            let count = V::LANES.min(row.seen - j);
            let bias = match row.bias.is_null() {
                true => v.splat(0.0),
                false => v.mul(v.load_first(row.bias.add(j), count), v.splat(LOG2_E)),
            };
            let score = v.mul_add(v.load(row.scores.add(j)), v.splat(scale), bias);
            v.store(row.scores.add(j), score);
            j += V::LANES;
        }
        (1.0, maximum(v, row.scores, row.seen))
    }
}

#[inline(always)]
unsafe fn maximum<V: Vectors>(v: V, x: *const f32, count: usize) -> f32 {
    let mut highest = v.splat(f32::NEG_INFINITY);
    let mut j = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while j + V::LANES <= count {
            highest = v.max(highest, v.load(x.add(j)));
            j += V::LANES;
        }
        let mut maximum = v.maximum(highest);
        for j in j..count {
            maximum = maximum.max(*x.add(j));
        }
        maximum
    }
}

/// Writes 2^(factor · score - origin) and returns the sum.
#[inline(always)]
unsafe fn write_weights<V: Vectors, T: Number>(
    v: V,
    row: &Row<T>,
    factor: f32,
    origin: f32,
) -> f32 {
    let (factor, origin) = (v.splat(factor), v.splat(-origin));
    let mut sum = v.splat(0.0);
    let mut j = 0;
    // SAFETY: the caller's promise; `partial` holds a vector of any level.
    unsafe {
        while j + V::LANES <= row.seen {
            let score = v.mul_add(v.load(row.scores.add(j)), factor, origin);
            let weight = T::Product::exp2(v, score);
            sum = v.add(sum, weight);
            T::store(v, row.weights.add(j), weight);
            j += V::LANES;
        }
        if j < row.seen {
            let score = v.mul_add(v.load(row.scores.add(j)), factor, origin);
            let mut partial = [0.0; MOST_LANES];
            v.store(partial.as_mut_ptr(), T::Product::exp2(v, score));
            let weight = v.load_first(partial.as_ptr(), row.seen - j);
            sum = v.add(sum, weight);
            T::store(v, row.weights.add(j), weight);
            j += V::LANES;
        }
        while j < row.keys {
            T::store(v, row.weights.add(j), v.splat(0.0));
            j += V::LANES;
        }
    }
    v.sum(sum)
}
