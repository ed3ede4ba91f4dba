//! Products with one narrow side, for training LoRA: y = x · Wᵀ + s · (x · Aᵀ) · Bᵀ. Rows are f32 or bf16; A, B, hidden
//! rows, sums and gradients are f32. Matrices are read as they lie in memory, since A and B change with every step.
//!
//! Axis key: x is (rows, in), A (rank, in), B (out, rank), hidden rows (rows, rank), dY (rows, out).

mod reference; // what is meant
mod tile; // one vector of columns for as many rows as a vector has lanes

use crate::Simd;
use crate::aligned::with_scratch;
use crate::rows::{Rows, RowsMut};
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Vectors, Work};
use tile::{Left, MOST_LANES, Panel};

/// Columns of a task.
const COLUMNS: usize = 256;

/// Panels of left rows of a task.
const PANELS: usize = 4;

/// hidden = scale · x · Aᵀ
///
/// # Panics
/// When the shapes disagree.
pub fn narrow<T: Number>(x: Rows<'_, T>, a: Rows<'_, f32>, scale: f32, hidden: RowsMut<'_, f32>) {
    narrow_on(Simd::active(), x, a, scale, hidden);
}

/// hidden = scale · dY · B, which is the gradient of the hidden rows times the scale.
///
/// # Panics
/// When the shapes disagree.
pub fn narrow_back<T: Number>(
    dy: Rows<'_, T>,
    b: Rows<'_, f32>,
    scale: f32,
    hidden: RowsMut<'_, f32>,
) {
    narrow_back_on(Simd::active(), dy, b, scale, hidden);
}

/// to = y + hidden · Bᵀ, rounded once.
///
/// # Panics
/// When the shapes disagree.
pub fn widen<Y: Number>(
    hidden: Rows<'_, f32>,
    b: Rows<'_, f32>,
    y: Rows<'_, f32>,
    to: RowsMut<'_, Y>,
) {
    widen_on(Simd::active(), hidden, b, y, to);
}

/// dw (n, k) = leftᵀ · right for left (rows, n) and right (rows, k): the gradients dA = uᵀ · x and dB = dYᵀ · h.
///
/// # Panics
/// When the shapes disagree.
pub fn outer<A: Number, B: Number>(left: Rows<'_, A>, right: Rows<'_, B>, dw: RowsMut<'_, f32>) {
    outer_on(Simd::active(), left, right, dw);
}

fn narrow_on<T: Number>(
    simd: Simd,
    x: Rows<'_, T>,
    a: Rows<'_, f32>,
    scale: f32,
    hidden: RowsMut<'_, f32>,
) {
    assert_eq!(x.columns(), a.columns(), "numbers of a row of x");
    transposed(simd, a, |a| narrow_back_on(simd, x, a, scale, hidden));
}

fn narrow_back_on<T: Number>(
    simd: Simd,
    dy: Rows<'_, T>,
    b: Rows<'_, f32>,
    scale: f32,
    mut hidden: RowsMut<'_, f32>,
) {
    assert_eq!(dy.columns(), b.rows(), "numbers of a row of dY");
    assert_eq!((hidden.rows(), hidden.columns()), (dy.rows(), b.columns()), "hidden rows");
    let product = Product { left: Left::Rows(dy), right: b, start: None, scale };
    product.run(simd, &mut hidden);
}

fn widen_on<Y: Number>(
    simd: Simd,
    hidden: Rows<'_, f32>,
    b: Rows<'_, f32>,
    y: Rows<'_, f32>,
    mut to: RowsMut<'_, Y>,
) {
    assert_eq!(hidden.columns(), b.columns(), "rank");
    let shape = (hidden.rows(), b.rows());
    assert_eq!((y.rows(), y.columns()), shape, "rows of y");
    assert_eq!((to.rows(), to.columns()), shape, "rows of the result");
    transposed(simd, b, |b| {
        let product = Product { left: Left::Rows(hidden), right: b, start: Some(y), scale: 1.0 };
        product.run(simd, &mut to);
    });
}

fn outer_on<A: Number, B: Number>(
    simd: Simd,
    left: Rows<'_, A>,
    right: Rows<'_, B>,
    mut dw: RowsMut<'_, f32>,
) {
    assert_eq!(left.rows(), right.rows(), "rows of both sides");
    assert_eq!((dw.rows(), dw.columns()), (left.columns(), right.columns()), "shape of dW");
    let product = Product { left: Left::Columns(left), right, start: None, scale: 1.0 };
    product.run(simd, &mut dw);
}

/// start + scale · left · right, (rows, columns).
struct Product<'a, A, B> {
    /// (rows, depth)
    left: Left<'a, A>,
    /// (depth, columns)
    right: Rows<'a, B>,
    /// (rows, columns); nothing for zeros.
    start: Option<Rows<'a, f32>>,
    scale: f32,
}

impl<A: Number, B: Number> Product<'_, A, B> {
    /// A task is some rows of some columns; sums are taken in one order, whoever takes them.
    fn run<Y: Number>(&self, simd: Simd, to: &mut RowsMut<'_, Y>) {
        let lanes = vector::run(simd, Lanes);
        let (rows, columns, stride) = (to.rows(), to.columns(), to.stride());
        let panels = rows.div_ceil(lanes);
        let (groups, chunks) = (panels.div_ceil(PANELS), columns.div_ceil(COLUMNS));
        let to = to.share();
        threads::parallel_for(groups * chunks, |task| {
            let (group, chunk) = (task / chunks, task % chunks);
            let columns = chunk * COLUMNS..columns.min((chunk + 1) * COLUMNS);
            for panel in group * PANELS..panels.min((group + 1) * PANELS) {
                let rows = panel * lanes..rows.min((panel + 1) * lanes);
                let work = Panel { product: self, rows, columns: columns.clone(), to, stride };
                with_scratch(2 * tile::BLOCK * MOST_LANES, |room: &mut [f32]| {
                    with_scratch(lanes * COLUMNS, |sums: &mut [f32]| {
                        vector::run(simd, (work, room, sums));
                    });
                });
            }
        });
    }
}

struct Lanes;

impl Work for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) -> usize {
        V::LANES
    }
}

/// Lends `task` the transpose of `x`.
fn transposed<R>(simd: Simd, x: Rows<'_, f32>, task: impl FnOnce(Rows<'_, f32>) -> R) -> R {
    let (rows, columns) = (x.rows(), x.columns());
    with_scratch(rows * columns, |to: &mut [f32]| {
        let shared = SharedPtr::new(to);
        vector::run(simd, tile::Transpose { x, to: shared, stride: rows });
        task(Rows::strided(to, columns, rows, rows))
    })
}

#[cfg(test)]
mod tests; // every level against the plain loops
