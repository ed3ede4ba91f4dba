//! An upper bound of a query's scores, |q·k| ≤ |q|·|k|. Where it is low, weights can be taken relative to it rather than to
//! the highest score, which then need not be looked for.

use crate::panels::Rows;
use crate::vector::{Number, Vectors};

/// The highest bound of use, in powers of two. Scores lie within ± the bound, weights are at least 2⁻⁸⁰, and their products
/// with values stay above the smallest f32, 2⁻¹²⁶.
pub(super) const MOST: f32 = 40.0;

/// |x|² of the longest of the rows; 0 without rows.
///
/// # Safety
/// The rows must be readable.
#[inline(always)]
pub(super) unsafe fn longest_squared<V: Vectors, T: Number>(v: V, x: &Rows<T>) -> f32 {
    let mut longest = 0.0;
    for row in 0..x.count {
        let mut squares = v.splat(0.0);
        let mut column = 0;
        while column < x.len {
            // SAFETY: the caller's promise.
            unsafe {
                let from = x.start.add(row * x.stride + column);
                let numbers = T::load_up_to(v, from, x.len - column);
                squares = v.mul_add(numbers, numbers, squares);
            }
            column += V::LANES;
        }
        longest = longer(longest, v.sum(squares));
    }
    longest
}

/// The longer of two; NaN if either is, so that no bound is taken from it.
pub(super) fn longer(a: f32, b: f32) -> f32 {
    if a >= b || a.is_nan() { a } else { b }
}
