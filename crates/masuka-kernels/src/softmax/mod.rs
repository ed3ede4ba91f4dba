//! Softmax over rows, e^(x - max) / Σ e^(x - max), in f32. Attention has its own, in which the row is never whole.

mod reference; // what is meant

use crate::level::Simd;
use crate::threads;
use crate::vector::{self, Math, Number, Vectors, Work};

/// Numbers of a task, at least one row.
const CHUNK: usize = 8192;

/// Softmax of every row of `d` numbers, in place.
///
/// # Panics
/// When `d` does not divide the length.
pub fn softmax<T: Number>(x: &mut [T], d: usize) {
    softmax_on(Simd::active(), x, d);
}

fn softmax_on<T: Number>(simd: Simd, x: &mut [T], d: usize) {
    assert!(d > 0 && x.len().is_multiple_of(d), "{} numbers in rows of {d}", x.len());
    let rows = (CHUNK / d).max(1);
    threads::parallel_chunks(x, rows * d, |_, x| vector::run(simd, Softmax { x, d }));
}

struct Softmax<'a, T> {
    x: &'a mut [T],
    d: usize,
}

impl<T: Number> Work for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        for row in self.x.chunks_exact_mut(self.d) {
            let highest = row.iter().fold(f32::NEG_INFINITY, |a, b| a.max(b.to_f32()));
            // A row that is nothing but -∞ has no softmax; NaN says so.
            let sum = sum_of_weights(v, row, highest);
            write_weights(v, row, highest, 1.0 / sum);
        }
    }
}

#[inline(always)]
fn sum_of_weights<V: Vectors, T: Number>(v: V, row: &[T], highest: f32) -> f32 {
    let count = row.len();
    let mut sum = v.splat(0.0);
    let mut i = 0;
    // SAFETY: i < count.
    unsafe {
        while i + V::LANES <= count {
            let x = T::load(v, row.as_ptr().add(i));
            sum = v.add(sum, v.exp(v.sub(x, v.splat(highest))));
            i += V::LANES;
        }
    }
    let rest: f32 = row[i..].iter().map(|x| (x.to_f32() - highest).exp()).sum();
    v.sum(sum) + rest
}

#[inline(always)]
fn write_weights<V: Vectors, T: Number>(v: V, row: &mut [T], highest: f32, factor: f32) {
    let count = row.len();
    let mut i = 0;
    while i < count {
        // SAFETY: i < count.
        unsafe {
            let at = row.as_mut_ptr().add(i);
            let x = v.sub(T::load_up_to(v, at, count - i), v.splat(highest));
            T::store_up_to(v, at, v.mul(v.exp(x), v.splat(factor)), count - i);
        }
        i += V::LANES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, assert_close};

    #[test]
    fn every_level_agrees_with_the_definition() {
        let mut random = Random::new(1);
        for simd in Simd::supported() {
            for (rows, d) in [(1, 1), (3, 7), (5, 64), (2, 1000), (300, 77)] {
                let mut x: Vec<f32> = random.vec_f32(rows * d).iter().map(|x| 30.0 * x).collect();
                x[0] = f32::NEG_INFINITY;
                x[d - 1] = 3.0;
                let expected = reference::softmax(&x, d);
                softmax_on(simd, &mut x, d);
                // The exponent's rounding: 60 · 2⁻²⁴, three times for safety.
                let bound = |y: f32| 1e-5 * y + 1e-30;
                assert_close(&x, &expected, bound, &format!("{simd:?} {rows} {d}"));
            }
        }
    }
}
