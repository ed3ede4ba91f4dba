//! What the products mean, in plain loops. Sums are taken in f64, so that only the fast side's rounding is measured.
#![cfg(test)]

use crate::elementwise::Activation;

/// A matrix (rows, columns).
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f32>,
}

impl Matrix {
    pub fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.data[row * self.columns + column])
    }

    pub fn from_fn(rows: usize, columns: usize, at: impl Fn(usize, usize) -> f64) -> Self {
        let at = |i: usize| at(i / columns, i % columns) as f32;
        Self { rows, columns, data: (0..rows * columns).map(at).collect() }
    }

    pub fn transposed(&self) -> Self {
        Self::from_fn(self.columns, self.rows, |i, j| self.at(j, i))
    }

    /// a · b
    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows);
        Self::from_fn(self.rows, other.columns, |i, j| {
            (0..self.columns).map(|k| self.at(i, k) * other.at(k, j)).sum()
        })
    }

    pub fn plus(&self, other: &Self, scale: f64) -> Self {
        Self::from_fn(self.rows, self.columns, |i, j| self.at(i, j) + scale * other.at(i, j))
    }

    /// Like [`times`](Self::times) of the magnitudes: what an error is relative to.
    pub fn magnitude(&self, other: &Self) -> Self {
        let abs = |x: &Self| Self::from_fn(x.rows, x.columns, |i, j| x.at(i, j).abs());
        abs(self).times(&abs(other))
    }
}

/// The activations, by their definitions.
pub(crate) fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::GeluErf => unreachable!("tested with the elementwise functions"),
    }
}
