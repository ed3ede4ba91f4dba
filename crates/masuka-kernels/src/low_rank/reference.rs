//! The products as their definitions say.
#![cfg(test)]

use crate::rows::Rows;

/// Σ over the second axis of the left and the first of the right, both told by their element functions, in f64.
pub fn product(
    (rows, depth, columns): (usize, usize, usize),
    left: impl Fn(usize, usize) -> f64,
    right: impl Fn(usize, usize) -> f64,
) -> Vec<f32> {
    let mut product = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            let sum: f64 = (0..depth).map(|k| left(row, k) * right(k, column)).sum();
            product.push(sum as f32);
        }
    }
    product
}

/// Number (row, column) of `x`.
pub fn at<T: crate::Number>(x: Rows<'_, T>, row: usize, column: usize) -> f64 {
    f64::from(x.row(row)[column].to_f32())
}
