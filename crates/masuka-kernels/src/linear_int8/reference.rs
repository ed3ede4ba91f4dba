//! What quantisation means, in plain loops: numbers rounded to their steps and put
//! back. The rounding itself is done in f32, as the kernels do it, for a tie to fall to the same side.
#![cfg(test)]

use crate::linear::reference::Matrix;

/// Each row rounded to 255 steps between its smallest and its largest number, zero among them.
pub(crate) fn rounded_rows(x: &Matrix) -> Matrix {
    by_rows(x, |row| {
        let low = row.iter().copied().fold(0.0, f32::min);
        let high = row.iter().copied().fold(0.0, f32::max);
        let step = (high - low) / 255.0;
        let inverse = 1.0 / step;
        let zero = (-low * inverse).round();
        let byte = |x: f32| (x * inverse + zero).clamp(0.0, 255.0).round_ties_even();
        row.iter().map(|x| f64::from(step) * f64::from(byte(*x) - zero)).collect()
    })
}

/// Each row rounded to 127 steps on either side of zero.
pub(crate) fn rounded_weight(w: &Matrix) -> Matrix {
    by_rows(w, |row| {
        let step = row.iter().fold(0.0, |largest: f32, w| largest.max(w.abs())) / 127.0;
        let inverse = 1.0 / step;
        row.iter().map(|w| f64::from(step) * f64::from((w * inverse).round_ties_even())).collect()
    })
}

fn by_rows(x: &Matrix, round: impl Fn(&[f32]) -> Vec<f64>) -> Matrix {
    let rows: Vec<_> = x.data.chunks(x.columns).map(round).collect();
    Matrix::from_fn(x.rows, x.columns, |i, j| rows[i][j])
}
