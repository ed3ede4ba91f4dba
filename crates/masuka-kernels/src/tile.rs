//! Products of small blocks that lie in the cache: A row by row, B packed in panels. Attention and convolution are
//! made of them.
//!
//! Axis key: a row of A is `depth` units; a panel of B is (depth, columns) units with `columns` up to
//! `PANEL · LANES`, the columns beside each other.

use crate::Simd;
#[cfg(target_arch = "x86_64")]
use crate::amx::{STEP, Square, TILE, Tiles};
use crate::vector::{Product, Vectors};

/// Rows of A that are multiplied at once. With four vectors a row, 24 of the 32 registers of AVX-512 hold sums; with
/// two, 12 of AVX2's 16.
const ROWS: usize = 6;

/// What rows of a block must be a multiple of on a level.
pub(crate) fn rows_at_once(simd: Simd) -> usize {
    match simd {
        #[cfg(target_arch = "x86_64")]
        Simd::Amx(_) => STEP,
        _ => ROWS,
    }
}

/// Units along the sum after which the sums are put down, so that this part of a panel stays in the first cache:
/// 128 units of 64 columns are 32 KiB.
const DEPTH_BLOCK: usize = 128;

/// One block of C = A · B, or C += A · B.
pub(crate) struct Block<P: Product> {
    pub a: *const P::Unit,
    /// Units from row to row.
    pub a_stride: usize,
    /// A multiple of [`rows_at_once`].
    pub rows: usize,
    /// Units of a row.
    pub depth: usize,
    /// A panel.
    pub b: *const P::Unit,
    /// Columns of the panel in vectors, 1 to `PANEL`.
    pub vectors: usize,
    pub c: *mut f32,
    /// Numbers from row to row.
    pub c_stride: usize,
    /// Adds to what C holds.
    pub accumulate: bool,
}

impl<P: Product> Clone for Block<P> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// What a thread needs beside its registers while it multiplies blocks.
#[derive(Debug)]
pub(crate) struct Tools {
    #[cfg(target_arch = "x86_64")]
    tiles: Option<Tiles>,
}

impl Tools {
    /// Shapes the tiles, where the level has them.
    #[inline(always)]
    pub fn new<V: Vectors>(v: V) -> Self {
        let _ = v;
        Self {
            #[cfg(target_arch = "x86_64")]
            tiles: v.amx().map(Tiles::new),
        }
    }
}

/// Multiplies one block.
///
/// # Safety
/// A, B and C must lie in memory as the block says, and C overlap neither A nor B.
#[inline(always)]
pub(crate) unsafe fn multiply<V: Vectors, P: Product>(v: V, tools: &Tools, block: &Block<P>) {
    #[cfg(target_arch = "x86_64")]
    if let (Some(tiles), 2, 2 | 4) = (&tools.tiles, P::DEPTH, block.vectors) {
        // SAFETY: the caller's promise.
        return unsafe { in_tiles(v, tiles, block) };
    }
    let _ = tools;
    // SAFETY: the caller's promise.
    unsafe { in_vectors(v, block) };
}

/// By AMX, what is left of the sum by vectors.
///
/// # Safety
/// As for [`multiply`]; rows are a multiple of `STEP`, vectors are two or four.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn in_tiles<V: Vectors, P: Product>(v: V, tiles: &Tiles, block: &Block<P>) {
    const { assert!(size_of::<P::Unit>() == 4) };
    debug_assert!(block.rows.is_multiple_of(STEP));
    let b_stride = block.vectors * V::LANES;
    let steps = block.depth / TILE;
    if steps > 0 {
        for row in (0..block.rows).step_by(STEP) {
            for column in (0..b_stride).step_by(STEP) {
                let square = Square {
                    a: block.a.wrapping_add(row * block.a_stride).cast(),
                    a_stride: 4 * block.a_stride,
                    b: block.b.wrapping_add(column).cast(),
                    b_stride: 4 * b_stride,
                    steps,
                    c: block.c.wrapping_add(row * block.c_stride + column).cast(),
                    c_stride: 4 * block.c_stride,
                    add: block.accumulate,
                };
                // SAFETY: the caller's promise: rows are a multiple of `STEP`, and so are columns.
                unsafe { tiles.multiply_square(&square) };
            }
        }
    }
    if steps * TILE < block.depth {
        let rest = Block {
            a: block.a.wrapping_add(steps * TILE),
            b: block.b.wrapping_add(steps * TILE * b_stride),
            depth: block.depth - steps * TILE,
            accumulate: block.accumulate || steps > 0,
            ..*block
        };
        // SAFETY: the caller's promise.
        unsafe { in_vectors(v, &rest) };
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn in_vectors<V: Vectors, P: Product>(v: V, block: &Block<P>) {
    debug_assert!(block.rows.is_multiple_of(2));
    // SAFETY: the caller's promise. More vectors than a level's `PANEL` are never asked for; the arms beyond it are
    // left out at compile time.
    unsafe {
        match block.vectors {
            1 => panel::<V, P, 1>(v, block),
            2 if V::PANEL >= 2 => panel::<V, P, 2>(v, block),
            3 if V::PANEL >= 3 => panel::<V, P, 3>(v, block),
            _ if V::PANEL >= 4 => panel::<V, P, 4>(v, block),
            _ => unreachable!("a panel of {} vectors", block.vectors),
        }
    }
}

#[inline(always)]
unsafe fn panel<V: Vectors, P: Product, const N: usize>(v: V, block: &Block<P>) {
    let mut start = 0;
    while start < block.depth {
        let part = Block {
            depth: DEPTH_BLOCK.min(block.depth - start),
            a: block.a.wrapping_add(start),
            b: block.b.wrapping_add(start * N * V::LANES),
            accumulate: block.accumulate || start > 0,
            ..*block
        };
        let mut row = 0;
        while row < block.rows {
            // SAFETY: the caller's promise; these rows are there, for both multiples are even.
            unsafe {
                row += match block.rows - row {
                    ROWS.. => tile::<V, P, N, ROWS>(v, &part, row),
                    _ => tile::<V, P, N, 2>(v, &part, row),
                }
            };
        }
        start += DEPTH_BLOCK;
    }
}

/// `R` rows of the block from `row`; returns `R`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "rows, columns and memory are walked in step")]
unsafe fn tile<V: Vectors, P: Product, const N: usize, const R: usize>(
    v: V,
    block: &Block<P>,
    row: usize,
) -> usize {
    // SAFETY: the caller's promise: row + R - 1 is a row of A and C, and k < depth.
    unsafe {
        let c = block.c.add(row * block.c_stride);
        let mut sums = [[v.splat(0.0); N]; R];
        if block.accumulate {
            for i in 0..R {
                for j in 0..N {
                    sums[i][j] = v.load(c.add(i * block.c_stride + j * V::LANES));
                }
            }
        }
        let mut a = block.a.add(row * block.a_stride);
        let mut b = block.b;
        for _ in 0..block.depth {
            let mut columns = [P::load(v, b); N];
            for j in 1..N {
                columns[j] = P::load(v, b.add(j * V::LANES));
            }
            for i in 0..R {
                let x = P::splat(v, a.add(i * block.a_stride).read());
                for j in 0..N {
                    sums[i][j] = P::dot(v, sums[i][j], x, columns[j]);
                }
            }
            a = a.add(1);
            b = b.add(N * V::LANES);
        }
        for i in 0..R {
            for j in 0..N {
                v.store(c.add(i * block.c_stride + j * V::LANES), sums[i][j]);
            }
        }
    }
    R
}
