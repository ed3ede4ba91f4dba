//! The gradient of the input of a frozen weight. With u = scale · dY · B, a LoRA update adds u · A to it.

use super::epilogue::{Finish, Output};
use super::panels::Turned;
use super::tile::Floats;
use super::{Branch, PackedLinear, multiply};
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
    mut dx: RowsMut<'_, Y>,
) {
    for LowRank { hidden, matrix } in updates {
        assert_eq!(hidden.columns(), matrix.rows(), "rank of an update");
        assert_eq!(matrix.columns(), weight.in_features(), "columns of an update");
        assert_eq!(hidden.rows(), dy.rows(), "rows of an update");
    }
    assert_eq!(dx.rows(), dy.rows(), "rows of the gradient");
    assert_eq!(dx.columns(), weight.in_features(), "columns of the gradient");
    let simd = weight.weight.simd();
    let output = Output::new(&mut dx);
    multiply::<Floats<T>, _>(simd, dy, &Turned(&weight.weight), |place, sums| {
        for LowRank { hidden, matrix } in updates {
            Branch { hidden: *hidden, matrix }.add_to(simd, place, sums);
        }
        vector::run(simd, Finish { output: &output, place, sums });
    });
}
