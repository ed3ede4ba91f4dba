//! The innermost loops: some rows of x times one block of a panel, sums kept in registers.
//!
//! Axis key: a word is four bytes along the sum: one f32, two bf16 or four int8. A row of x is read word by word as it
//! lies in memory; a panel block is (words, `PANEL`) words, the columns beside each other.

use std::marker::PhantomData;

use crate::Simd;
#[cfg(target_arch = "x86_64")]
use crate::amx::Words;
use crate::vector::{self, Number, Product, Vectors, Work};

use super::product::{Format, PANEL, Strip};

/// Products of T by T, summed in f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floats<T>(PhantomData<T>);

impl<T: Number> Format for Floats<T> {
    type X = T;
    type W = <T::Product as Product>::Unit;
    type Sum = f32;
    const GROUP: usize = <T::Product as Product>::DEPTH;
    #[cfg(target_arch = "x86_64")]
    const TILES: Option<Words> = if Self::GROUP == 2 { Some(Words::Bf16) } else { None };

    unsafe fn multiply(simd: Simd, strip: Strip<'_, Self>) {
        vector::run(simd, strip);
    }
}

/// Rows at once: with four vectors a row, 24 of AVX-512's 32 registers hold sums. With two, 12 of AVX2's 16 do, or 8
/// where a pair of bf16 takes two registers.
const MOST_ROWS: usize = 6;

impl<T: Number> Work for Strip<'_, Floats<T>> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let at_once =
            if V::LANES < 16 && T::Product::DEPTH > 1 { MOST_ROWS - 2 } else { MOST_ROWS };
        let mut row = 0;
        while row < self.rows {
            // SAFETY: whoever made the strip promises its memory, and `row` is below its rows.
            unsafe {
                row += match at_once.min(self.rows - row) {
                    1 => tile::<V, T, 1>(v, &self, row),
                    2 => tile::<V, T, 2>(v, &self, row),
                    3 => tile::<V, T, 3>(v, &self, row),
                    4 => tile::<V, T, 4>(v, &self, row),
                    5 => tile::<V, T, 5>(v, &self, row),
                    _ => tile::<V, T, MOST_ROWS>(v, &self, row),
                }
            };
        }
    }
}

/// `R` rows from `row`; returns `R`.
#[inline(always)]
unsafe fn tile<V: Vectors, T: Number, const R: usize>(
    v: V,
    strip: &Strip<'_, Floats<T>>,
    row: usize,
) -> usize {
    let mut column = 0;
    while column < PANEL {
        // SAFETY: the caller's promise; `column` is below the panel's width, which all levels divide.
        unsafe {
            match V::PANEL {
                1 => columns::<V, T, R, 1>(v, strip, row, column),
                2 => columns::<V, T, R, 2>(v, strip, row, column),
                _ => columns::<V, T, R, 4>(v, strip, row, column),
            }
        }
        column += V::PANEL * V::LANES;
    }
    R
}

/// `R` rows from `row` by `N` vectors of columns from `column`.
#[inline(always)]
#[expect(
    clippy::needless_range_loop,
    reason = "loops of constant length over several arrays at once"
)]
unsafe fn columns<V: Vectors, T: Number, const R: usize, const N: usize>(
    v: V,
    strip: &Strip<'_, Floats<T>>,
    row: usize,
    column: usize,
) {
    // SAFETY: the strip's rows, panel and sums are there as it says; all indices stay below its numbers.
    unsafe {
        let sums = strip.sums.add(row * PANEL + column);
        let mut acc = [[v.splat(0.0); N]; R];
        if strip.add {
            for i in 0..R {
                for j in 0..N {
                    acc[i][j] = v.load(sums.add(i * PANEL + j * V::LANES));
                }
            }
        }
        let mut rows = [strip.x; R];
        for i in 0..R {
            rows[i] = strip.x.add((row + i) * strip.stride);
        }
        // Past the last word it may point further than the panel's end.
        let mut panel = strip.panel.wrapping_add(column);
        for word in 0..strip.words {
            let mut b = [T::Product::load(v, panel); N];
            for j in 1..N {
                b[j] = T::Product::load(v, panel.add(j * V::LANES));
            }
            for i in 0..R {
                let x = rows[i].cast::<<T::Product as Product>::Unit>().add(word).read_unaligned();
                let x = T::Product::splat(v, x);
                for j in 0..N {
                    acc[i][j] = T::Product::dot(v, acc[i][j], x, b[j]);
                }
            }
            panel = panel.wrapping_add(PANEL);
        }
        for i in 0..R {
            for j in 0..N {
                v.store(sums.add(i * PANEL + j * V::LANES), acc[i][j]);
            }
        }
    }
}
