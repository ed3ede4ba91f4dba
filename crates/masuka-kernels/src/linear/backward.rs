//! Products of training: gradients of the input of a frozen weight and of the two small matrices of LoRA.
//!
//! With h = x · Aᵀ and u = scale · dY · B, the update scale · h · Bᵀ of [`linear`](super::linear) gives
//! dX += u · A, dA = uᵀ · x and dB = scale · dYᵀ · h.

use super::epilogue::{Finish, Output};
use super::panels::Turned;
use super::tile::Floats;
use super::{Branch, PackedLinear, Panels, multiply};
use crate::Simd;
use crate::aligned::with_scratch;
use crate::rows::{Rows, RowsMut};
use crate::vector::{self, Number};

/// hidden (rows, rank) · matrix (rank, columns), to be added in f32.
#[derive(Debug, Clone, Copy)]
pub struct LowRank<'a> {
    /// (rows, rank)
    pub hidden: Rows<'a, f32>,
    /// (rank, columns)
    pub matrix: Rows<'a, f32>,
}

/// dX (rows, in) = dY (rows, out) · W + Σ hidden · matrix, from the same packing that [`linear`](super::linear) reads
/// and on its level.
///
/// # Panics
/// When the shapes disagree.
pub fn grad_input<T: Number, Y: Number>(
    dy: Rows<'_, T>,
    weight: &PackedLinear<T>,
    updates: &[LowRank<'_>],
    dx: RowsMut<'_, Y>,
) {
    for LowRank { hidden, matrix } in updates {
        assert_eq!(hidden.columns(), matrix.rows(), "rank of an update");
        assert_eq!(matrix.columns(), weight.in_features(), "columns of an update");
        assert_eq!(hidden.rows(), dy.rows(), "rows of an update");
    }
    product(weight.weight.simd(), dy, &Turned(&weight.weight), updates, dx);
}

/// y (rows, columns) = x (rows, depth) · matrix (depth, columns), for few columns or many rows: the matrix is packed
/// while it is multiplied.
///
/// # Panics
/// When the shapes disagree.
pub fn matmul<T: Number, Y: Number>(x: Rows<'_, T>, matrix: Rows<'_, T>, y: RowsMut<'_, Y>) {
    product(Simd::active(), x, &matrix, &[], y);
}

/// dW (n, k) = leftᵀ · right for left (rows, n) and right (rows, k), of which one is narrow.
///
/// # Panics
/// When the shapes disagree.
pub fn grad_weight<T: Number>(left: Rows<'_, T>, right: Rows<'_, T>, dw: RowsMut<'_, f32>) {
    grad_weight_on(Simd::active(), left, right, dw);
}

pub(super) fn grad_weight_on<T: Number>(
    simd: Simd,
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    mut dw: RowsMut<'_, f32>,
) {
    assert_eq!(left.rows(), right.rows(), "rows of both sides");
    let (n, k) = (left.columns(), right.columns());
    assert_eq!((dw.rows(), dw.columns()), (n, k), "shape of dW");
    if n <= k {
        return transposed(left, |left| product(simd, left, &right, &[], dw));
    }
    // The narrow side is the one to transpose; the result is small.
    let mut turned = vec![0.0; n * k];
    transposed(right, |right| product(simd, right, &left, &[], RowsMut::new(&mut turned, n)));
    for (i, row) in (0..n).zip(dw.rows_mut()) {
        row.iter_mut().enumerate().for_each(|(j, x)| *x = turned[j * n + i]);
    }
}

/// Lends `task` the transpose of `x`.
fn transposed<T: Number>(x: Rows<'_, T>, task: impl FnOnce(Rows<'_, T>)) {
    let (rows, columns) = (x.rows(), x.columns());
    with_scratch(rows * columns, |copy: &mut [T]| {
        for i in 0..rows {
            x.row(i).iter().enumerate().for_each(|(j, x)| copy[j * rows + i] = *x);
        }
        task(Rows::strided(copy, columns, rows, rows));
    });
}

/// y = x · panels + Σ hidden · matrix
fn product<T: Number, Y: Number>(
    simd: Simd,
    x: Rows<'_, T>,
    panels: &impl Panels<Floats<T>>,
    updates: &[LowRank<'_>],
    mut y: RowsMut<'_, Y>,
) {
    assert_eq!(y.rows(), x.rows(), "rows of the product");
    assert_eq!(y.columns(), panels.columns(), "columns of the product");
    let output = Output::new(&mut y);
    multiply::<Floats<T>, _>(simd, x, panels, output.target(), |place, sums| {
        for LowRank { hidden, matrix } in updates {
            Branch { hidden: *hidden, matrix }.add_to(simd, place, sums);
        }
        vector::run(simd, Finish { output: &output, place, sums });
    });
}
