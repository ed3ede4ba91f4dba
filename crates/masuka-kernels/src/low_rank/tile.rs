//! The innermost loops: as many rows of the left side as a vector has lanes, turned so that a row of the panel holds the
//! same number of all of them, times one vector of columns after another. Sums stay in registers.

use std::ops::Range;

use super::{COLUMNS, Product};
use crate::rows::Rows;
use crate::threads::SharedPtr;
use crate::vector::{Number, Vectors, Work};

/// Numbers along the sum that are turned at a time: 16 KiB at 16 lanes.
pub(super) const BLOCK: usize = 256;

/// The widest vector of any level.
pub(super) const MOST_LANES: usize = 16;

/// The left side of a product.
#[derive(Clone, Copy)]
pub(super) enum Left<'a, A> {
    /// (rows, depth) as it lies.
    Rows(Rows<'a, A>),
    /// (depth, rows), to be turned.
    Columns(Rows<'a, A>),
}

impl<A> Left<'_, A> {
    /// Numbers along the sum.
    fn depth(&self) -> usize {
        match self {
            Self::Rows(x) => x.columns(),
            Self::Columns(x) => x.rows(),
        }
    }
}

/// At most `LANES` rows of a product, some columns of them.
pub(super) struct Panel<'a, A, B, Y> {
    pub product: &'a Product<'a, A, B>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    pub to: SharedPtr<Y>,
    /// Numbers from row to row of the result.
    pub stride: usize,
}

impl<A: Number, B: Number, Y: Number> Work for (Panel<'_, A, B, Y>, &mut [f32], &mut [f32]) {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (panel, room, sums) = self;
        let (turned, wide) = room.split_at_mut(BLOCK * MOST_LANES);
        let depth = panel.product.left.depth();
        panel.start(sums);
        let mut first = 0;
        while first < depth {
            let count = BLOCK.min(depth - first);
            panel.turn(v, first..first + count, turned, wide);
            panel.multiply(v, first, count, turned, sums);
            first += count;
        }
        panel.write(v, sums);
    }
}

impl<A: Number, B: Number, Y: Number> Panel<'_, A, B, Y> {
    /// Sets the sums (rows, `COLUMNS`) to what they start with, over the scale.
    #[inline(always)]
    fn start(&self, sums: &mut [f32]) {
        for (row, sums) in self.rows.clone().zip(sums.chunks_exact_mut(COLUMNS)) {
            match self.product.start {
                Some(start) => {
                    let start = &start.row(row)[self.columns.clone()];
                    sums[..start.len()].copy_from_slice(start);
                }
                None => sums.fill(0.0),
            }
        }
    }

    /// Writes the numbers `block` of all rows to `turned` (block, `LANES`), zeros where there is no row.
    #[inline(always)]
    fn turn<V: Vectors>(&self, v: V, block: Range<usize>, turned: &mut [f32], wide: &mut [f32]) {
        let rows = self.rows.len();
        match self.product.left {
            Left::Columns(x) => {
                for (row, to) in block.zip(turned.chunks_exact_mut(V::LANES)) {
                    let from = &x.row(row)[self.rows.clone()];
                    // SAFETY: `from` holds `rows` ≤ LANES numbers and `to` LANES.
                    unsafe {
                        v.store(to.as_mut_ptr(), A::load_up_to(v, from.as_ptr(), rows));
                    }
                }
            }
            Left::Rows(x) => {
                let count = block.len();
                for (i, to) in wide.chunks_exact_mut(BLOCK).take(V::LANES).enumerate() {
                    if i >= rows {
                        to.fill(0.0);
                        continue;
                    }
                    let from = &x.row(self.rows.start + i)[block.clone()];
                    let mut k = 0;
                    while k < count {
                        // SAFETY: k < count ≤ BLOCK, a multiple of LANES.
                        unsafe {
                            let x = A::load_up_to(v, from.as_ptr().add(k), count - k);
                            v.store(to.as_mut_ptr().add(k), x);
                        }
                        k += V::LANES;
                    }
                }
                let mut k = 0;
                while k < count {
                    // SAFETY: k < BLOCK, a multiple of LANES: LANES rows and columns from k on are in both.
                    unsafe {
                        let from = wide.as_ptr().add(k).cast();
                        let to = turned.as_mut_ptr().add(k * V::LANES).cast();
                        v.transpose(from, BLOCK, to, V::LANES);
                    }
                    k += V::LANES;
                }
            }
        }
    }

    /// Adds what `count` numbers from `first` on make.
    #[inline(always)]
    fn multiply<V: Vectors>(
        &self,
        v: V,
        first: usize,
        count: usize,
        turned: &[f32],
        sums: &mut [f32],
    ) {
        debug_assert!(turned.len() >= count * V::LANES && sums.len() >= V::LANES * COLUMNS);
        let scale = self.product.scale;
        let mut column = 0;
        while column < self.columns.len() {
            let left = self.columns.len() - column;
            // SAFETY: rows `first` to `first + count` of the right side hold `left` numbers from the column on; the
            // sums have room for LANES rows of COLUMNS numbers, a multiple of LANES.
            unsafe {
                let right = &self.product.right;
                let strip = Strip {
                    turned: turned.as_ptr(),
                    right: right.as_ptr().add(first * right.stride() + self.columns.start + column),
                    stride: right.stride(),
                    count,
                    left,
                    sums: sums.as_mut_ptr().add(column),
                    scale,
                };
                if V::LANES == MOST_LANES {
                    strip.add::<V, MOST_LANES>(v);
                } else {
                    strip.add::<V, { MOST_LANES / 2 }>(v);
                }
            }
            column += V::LANES;
        }
    }

    #[inline(always)]
    fn write<V: Vectors>(&self, v: V, sums: &[f32]) {
        let count = self.columns.len();
        for (row, sums) in self.rows.clone().zip(sums.chunks_exact(COLUMNS)) {
            let mut column = 0;
            while column < count {
                // SAFETY: the result's row has `count` numbers from the first column on, and the sums a vector from
                // each multiple of LANES; tasks write disjoint parts.
                unsafe {
                    let x = v.load(sums.as_ptr().add(column));
                    let to = self.to.at(row * self.stride + self.columns.start + column);
                    Y::store_up_to(v, to, x, count - column);
                }
                column += V::LANES;
            }
        }
    }
}

/// One vector of columns.
struct Strip<B> {
    /// (count, R)
    turned: *const f32,
    right: *const B,
    stride: usize,
    count: usize,
    /// Columns that are left, with those of this strip.
    left: usize,
    /// (R, `COLUMNS`)
    sums: *mut f32,
    scale: f32,
}

impl<B: Number> Strip<B> {
    /// sums += scale · turnedᵀ · right
    ///
    /// # Safety
    /// All must be there as the fields say, and R be the lanes of V.
    #[inline(always)]
    unsafe fn add<V: Vectors, const R: usize>(&self, v: V) {
        let mut acc = [v.splat(0.0); R];
        // SAFETY: the caller's promise.
        unsafe {
            if self.left >= V::LANES {
                for k in 0..self.count {
                    let b = B::load(v, self.right.add(k * self.stride));
                    let a = self.turned.add(k * R);
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = v.mul_add(v.splat(*a.add(i)), b, *acc);
                    }
                }
            } else {
                for k in 0..self.count {
                    let b = B::load_first(v, self.right.add(k * self.stride), self.left);
                    let a = self.turned.add(k * R);
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc = v.mul_add(v.splat(*a.add(i)), b, *acc);
                    }
                }
            }
            let scale = v.splat(self.scale);
            for (i, acc) in acc.into_iter().enumerate() {
                let sum = self.sums.add(i * COLUMNS);
                v.store(sum, v.mul_add(acc, scale, v.load(sum)));
            }
        }
    }
}

/// Writes the transpose of `x` to rows `stride` numbers apart.
pub(super) struct Transpose<'a> {
    pub x: Rows<'a, f32>,
    pub to: SharedPtr<f32>,
    pub stride: usize,
}

impl Work for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (rows, columns) = (self.x.rows(), self.x.columns());
        let whole = (rows / V::LANES * V::LANES, columns / V::LANES * V::LANES);
        for row in (0..whole.0).step_by(V::LANES) {
            for column in (0..whole.1).step_by(V::LANES) {
                // SAFETY: LANES rows and columns from here on are in both, and `to` overlaps nothing.
                unsafe {
                    let from = self.x.as_ptr().add(row * self.x.stride() + column).cast();
                    let to = self.to.at(column * self.stride + row).cast();
                    v.transpose(from, self.x.stride(), to, self.stride);
                }
            }
        }
        for row in 0..rows {
            let done = if row < whole.0 { whole.1 } else { 0 };
            for (column, x) in self.x.row(row).iter().enumerate().skip(done) {
                // SAFETY: the transpose has `columns` rows of `stride` ≥ `rows` numbers.
                unsafe { *self.to.at(column * self.stride + row) = *x };
            }
        }
    }
}
