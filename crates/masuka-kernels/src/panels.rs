//! Packing of the right side of a product into the panels that [`tile`](crate::tile) reads.
//!
//! Axis key: B is (depth, columns). Its panels lie one after another; a panel is (depth / `DEPTH`, its columns)
//! units. All panels have `PANEL · LANES` columns except the last, which has as many vectors as it needs (AMX: an even
//! number).

use crate::vector::{Product, Vectors};

/// How `columns` columns are cut into panels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels {
    /// In vectors.
    vectors: usize,
    /// Vectors of a full panel.
    panel: usize,
    lanes: usize,
}

impl Panels {
    /// AMX takes two vectors at once.
    #[inline(always)]
    pub fn new<V: Vectors>(v: V, columns: usize) -> Self {
        let multiple = if v.amx().is_some() { 2 } else { 1 };
        let vectors = columns.div_ceil(V::LANES).next_multiple_of(multiple);
        Self { vectors, panel: V::PANEL, lanes: V::LANES }
    }

    /// Columns with those that fill the last vectors.
    pub fn columns(self) -> usize {
        self.vectors * self.lanes
    }

    /// Columns of a full panel.
    pub fn width(self) -> usize {
        self.panel * self.lanes
    }

    /// How many panels there are.
    pub fn count(self) -> usize {
        self.vectors.div_ceil(self.panel)
    }

    /// Units of all panels with `depth` units each column.
    pub fn len(self, depth: usize) -> usize {
        self.columns() * depth
    }

    /// The vectors of panel `i`.
    pub fn vectors(self, i: usize) -> usize {
        self.panel.min(self.vectors - i * self.panel)
    }

    /// The first column of panel `i`.
    pub fn column(self, i: usize) -> usize {
        i * self.panel * self.lanes
    }

    /// Where panel `i` starts, in units.
    pub fn start(self, i: usize, depth: usize) -> usize {
        self.column(i) * depth
    }
}

/// Rows of numbers that lie `stride` numbers apart.
pub(crate) struct Rows<T> {
    pub start: *const T,
    pub stride: usize,
    pub count: usize,
    /// Numbers of a row.
    pub len: usize,
}

/// Packs one panel of B whose columns are the rows `x`: keys, or the output channels of a weight. `depth` is in
/// units; what lies beyond the rows and their length is zero.
///
/// # Safety
/// The rows must be readable, and `to` have room for `depth` times the panel's columns.
#[inline(always)]
pub(crate) unsafe fn pack_rows_as_columns<V: Vectors, P: Product>(
    v: V,
    x: &Rows<P::Number>,
    depth: usize,
    vectors: usize,
    to: *mut P::Unit,
) {
    let width = vectors * V::LANES;
    for vector in 0..vectors {
        let first = vector * V::LANES;
        let held = x.count.saturating_sub(first).min(V::LANES);
        let mut k = 0;
        // Words can be moved by vectors where rows start on any word.
        if held == V::LANES && x.stride.is_multiple_of(P::DEPTH) {
            while (k + V::LANES) * P::DEPTH <= x.len {
                // SAFETY: LANES rows and LANES units from unit k of each are there.
                unsafe {
                    let from = x.start.add(first * x.stride + k * P::DEPTH).cast();
                    v.transpose(from, x.stride / P::DEPTH, to.add(k * width + first).cast(), width);
                }
                k += V::LANES;
            }
        }
        for k in k..depth {
            for lane in 0..V::LANES {
                let held =
                    if lane < held { x.len.saturating_sub(k * P::DEPTH).min(P::DEPTH) } else { 0 };
                // SAFETY: `held` numbers of the row are left at unit k.
                unsafe {
                    let from = x.start.wrapping_add((first + lane) * x.stride + k * P::DEPTH);
                    let numbers =
                        if held == 0 { &[] } else { std::slice::from_raw_parts(from, held) };
                    *to.add(k * width + first + lane) = P::unit(numbers);
                }
            }
        }
    }
}

/// Packs `depth` units of one panel of B whose rows are the rows `x`: values. What lies beyond them is zero.
///
/// # Safety
/// As for [`pack_rows_as_columns`].
#[inline(always)]
pub(crate) unsafe fn pack_rows<V: Vectors, P: Product>(
    x: &Rows<P::Number>,
    depth: usize,
    vectors: usize,
    to: *mut P::Unit,
) {
    let width = vectors * V::LANES;
    let zero = P::Number::default();
    let columns = x.len.min(width);
    for k in 0..depth {
        let held = x.count.saturating_sub(k * P::DEPTH).min(P::DEPTH);
        let row = x.start.wrapping_add(k * P::DEPTH * x.stride);
        // SAFETY: `held` rows from `row` are there.
        unsafe {
            let to = to.add(k * width);
            if held == 2 {
                for c in 0..columns {
                    *to.add(c) = P::unit(&[*row.add(c), *row.add(x.stride + c)]);
                }
            } else if held == 1 {
                for c in 0..columns {
                    *to.add(c) = P::unit(&[*row.add(c), zero]);
                }
            }
            for c in if held == 0 { 0 } else { columns }..width {
                *to.add(c) = P::Unit::default();
            }
        }
    }
}

/// Copies rows of numbers into rows of `depth` units, zeros behind them and, up to `rows` rows, below.
///
/// # Safety
/// The rows must be readable, and `to` have room for `rows · depth` units.
pub(crate) unsafe fn copy_rows<P: Product>(
    x: &Rows<P::Number>,
    rows: usize,
    depth: usize,
    to: *mut P::Unit,
) {
    for row in 0..rows {
        let held = if row < x.count { x.len } else { 0 };
        // SAFETY: row `row` has `held` numbers; a unit holds DEPTH numbers, the first in its first bytes.
        unsafe {
            let to = to.add(row * depth).cast::<P::Number>();
            if held > 0 {
                to.copy_from_nonoverlapping(x.start.add(row * x.stride), held);
            }
            for i in held..depth * P::DEPTH {
                *to.add(i) = P::Number::default();
            }
        }
    }
}
