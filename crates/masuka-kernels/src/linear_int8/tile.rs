//! Some rows of x times one block of a panel in bytes, sums kept in registers; written once over what a level can do.

use super::portable::Portable;
use crate::Simd;
#[cfg(target_arch = "x86_64")]
use crate::amx::Words;
use crate::linear::{Format, PANEL, Strip};

/// Four bytes of x by four of W, summed in i32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes4;

impl Format for Bytes4 {
    type X = u8;
    type W = u32;
    type Sum = i32;
    const GROUP: usize = 4;
    #[cfg(target_arch = "x86_64")]
    const TILES: Option<Words> = Some(Words::Bytes);

    unsafe fn multiply(simd: Simd, strip: Strip<'_, Self>) {
        // SAFETY: the caller's promise; the token proves that the processor has the instructions.
        unsafe {
            match simd {
                #[cfg(target_arch = "x86_64")]
                Simd::Amx(token) => super::avx512::strip(token.avx512(), &strip),
                #[cfg(target_arch = "x86_64")]
                Simd::Avx512(token) => super::avx512::strip(token, &strip),
                #[cfg(target_arch = "x86_64")]
                Simd::Avx2(token) => super::avx2::strip(token, &strip),
                _ => strip_of(Portable, &strip),
            }
        }
    }
}

/// What a level can do with bytes. Every method is inlined into a function that is compiled for the level.
pub(super) trait Bytes: Copy {
    /// Sums in a vector.
    const LANES: usize;
    /// Vectors of columns at once.
    const VECTORS: usize;
    /// Rows at once, at most 6.
    const ROWS: usize;
    /// A vector of i32.
    type Sums: Copy;
    /// A word of x, ready to be multiplied with each lane.
    type X: Copy;
    /// A word of W in each lane.
    type W: Copy;

    /// # Safety
    /// `LANES` sums must be readable.
    unsafe fn load_sums(self, from: *const i32) -> Self::Sums;
    /// # Safety
    /// `LANES` sums must be writable.
    unsafe fn store_sums(self, to: *mut i32, sums: Self::Sums);
    fn zero(self) -> Self::Sums;
    fn splat(self, word: u32) -> Self::X;
    /// # Safety
    /// `LANES` words must be readable.
    unsafe fn load(self, from: *const u32) -> Self::W;
    /// sums + x₀w₀ + x₁w₁ + x₂w₂ + x₃w₃, lane by lane; x unsigned, w signed.
    fn dot(self, sums: Self::Sums, x: Self::X, w: Self::W) -> Self::Sums;
}

/// # Safety
/// The strip's memory must be as it says.
#[inline(always)]
pub(super) unsafe fn strip_of<B: Bytes>(b: B, strip: &Strip<'_, Bytes4>) {
    let mut row = 0;
    while row < strip.rows {
        let rows = B::ROWS.min(strip.rows - row);
        let mut column = 0;
        while column < PANEL {
            // SAFETY: the caller's promise; row and column are below the strip's.
            unsafe {
                match B::VECTORS {
                    4 => rows_of::<B, 4>(b, strip, row, rows, column),
                    2 => rows_of::<B, 2>(b, strip, row, rows, column),
                    _ => rows_of::<B, 1>(b, strip, row, rows, column),
                }
            }
            column += B::VECTORS * B::LANES;
        }
        row += rows;
    }
}

#[inline(always)]
unsafe fn rows_of<B: Bytes, const N: usize>(
    b: B,
    strip: &Strip<'_, Bytes4>,
    row: usize,
    rows: usize,
    column: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match rows {
            1 => tile::<B, 1, N>(b, strip, row, column),
            2 => tile::<B, 2, N>(b, strip, row, column),
            3 => tile::<B, 3, N>(b, strip, row, column),
            4 => tile::<B, 4, N>(b, strip, row, column),
            5 => tile::<B, 5, N>(b, strip, row, column),
            _ => tile::<B, 6, N>(b, strip, row, column),
        }
    }
}

/// `R` rows from `row` by `N` vectors of columns from `column`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant loops over several arrays at once")]
unsafe fn tile<B: Bytes, const R: usize, const N: usize>(
    b: B,
    strip: &Strip<'_, Bytes4>,
    row: usize,
    column: usize,
) {
    // SAFETY: the strip's rows, panel and sums are there as it says; all indices stay below its numbers.
    unsafe {
        let sums = strip.sums.add(row * PANEL + column);
        let mut acc = [[b.zero(); N]; R];
        if strip.add {
            for i in 0..R {
                for j in 0..N {
                    acc[i][j] = b.load_sums(sums.add(i * PANEL + j * B::LANES));
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
            let mut w = [b.load(panel); N];
            for j in 1..N {
                w[j] = b.load(panel.add(j * B::LANES));
            }
            for i in 0..R {
                let x = b.splat(rows[i].cast::<u32>().add(word).read_unaligned());
                for j in 0..N {
                    acc[i][j] = b.dot(acc[i][j], x, w[j]);
                }
            }
            panel = panel.wrapping_add(PANEL);
        }
        for i in 0..R {
            for j in 0..N {
                b.store_sums(sums.add(i * PANEL + j * B::LANES), acc[i][j]);
            }
        }
    }
}
