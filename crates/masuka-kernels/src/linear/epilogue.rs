//! What happens to the sums before they are rounded: bias, activation, gate and residual.

use super::Epilogue;
use super::product::{PANEL, Place};
use crate::elementwise::Activation;
use crate::rows::{Rows, RowsMut};
use crate::threads::SharedPtr;
use crate::vector::{Number, Vectors, Work};

/// y = residual + gate · y, with one row of gates for each element of the batch.
#[derive(Debug, Clone, Copy)]
pub struct Gated<'a, Y> {
    /// (batch, out)
    pub gate: Rows<'a, Y>,
    /// (rows, out)
    pub residual: Rows<'a, Y>,
}

/// Where a finished product goes and what is done on the way.
pub(crate) struct Output<'a, Y> {
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    gated: Option<Gated<'a, Y>>,
    to: SharedPtr<Y>,
    /// Numbers from row to row.
    stride: usize,
    rows: usize,
    columns: usize,
}

impl<'a, Y: Number> Output<'a, Y> {
    /// Plain output to `y`, which stays borrowed.
    pub fn new(y: &'a mut RowsMut<'_, Y>) -> Self {
        let (stride, rows, columns) = (y.stride(), y.rows(), y.columns());
        Self { bias: None, activation: None, gated: None, to: y.share(), stride, rows, columns }
    }

    /// With what follows the product, beside LoRA.
    ///
    /// # Panics
    /// When the bias, the gates or the residual do not fit y.
    pub fn with<T: Number>(self, epilogue: &Epilogue<'a, T, Y>) -> Self {
        let Epilogue { bias, activation, gated, .. } = *epilogue;
        assert!(bias.is_none_or(|bias| bias.len() == self.columns), "numbers of the bias");
        if let Some(Gated { gate, residual }) = &gated {
            let shape = (self.rows, self.columns);
            assert_eq!((residual.rows(), residual.columns()), shape, "shape of the residual");
            assert_eq!(gate.columns(), self.columns, "columns of the gate");
            let batch = gate.rows();
            let fits = batch > 0 && self.rows.is_multiple_of(batch);
            assert!(fits || self.rows == 0, "{} rows for {batch} gates", self.rows);
        }
        Self { bias, activation, gated, ..self }
    }
}

/// The way of one block of sums.
pub(crate) struct Finish<'a, Y> {
    pub output: &'a Output<'a, Y>,
    pub place: Place,
    pub sums: &'a [f32],
}

impl<Y: Number> Work for Finish<'_, Y> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        match self.output.activation {
            None => self.rows(v, |x| x),
            Some(Activation::GeluTanh) => self.rows(v, |x| Activation::GeluTanh.apply(v, x)),
            Some(Activation::GeluErf) => self.rows(v, |x| Activation::GeluErf.apply(v, x)),
            Some(Activation::QuickGelu) => self.rows(v, |x| Activation::QuickGelu.apply(v, x)),
            Some(Activation::Silu) => self.rows(v, |x| Activation::Silu.apply(v, x)),
        }
    }
}

impl<Y: Number> Finish<'_, Y> {
    #[inline(always)]
    fn rows<V: Vectors>(&self, v: V, activate: impl Fn(V::F32) -> V::F32) {
        let Place { row, rows, panel, columns } = self.place;
        for i in 0..rows {
            let sums = &self.sums[i * PANEL..(i + 1) * PANEL];
            let mut column = 0;
            while column < columns {
                let left = columns - column;
                let at = panel * PANEL + column;
                // SAFETY: `column` is below the columns of the panel, which all slices hold, and the sums go on to
                // `PANEL`, which vectors divide. Places do not overlap.
                unsafe {
                    let mut y = v.load(sums.as_ptr().add(column));
                    if let Some(bias) = self.output.bias {
                        y = v.add(y, f32::load_up_to(v, bias.as_ptr().add(at), left));
                    }
                    y = activate(y);
                    if let Some(gated) = &self.output.gated {
                        y = add_gated(v, gated, row + i, at, left, y);
                    }
                    let to = self.output.to.at((row + i) * self.output.stride + at);
                    Y::store_up_to(v, to, y, left);
                }
                column += V::LANES;
            }
        }
    }
}

/// # Safety
/// `left` columns from `column` must be there.
#[inline(always)]
unsafe fn add_gated<V: Vectors, Y: Number>(
    v: V,
    gated: &Gated<'_, Y>,
    row: usize,
    column: usize,
    left: usize,
    y: V::F32,
) -> V::F32 {
    let rows_per_gate = gated.residual.rows() / gated.gate.rows();
    let gate = gated.gate.row(row / rows_per_gate);
    let residual = gated.residual.row(row);
    // SAFETY: the caller's promise.
    unsafe {
        let gate = Y::load_up_to(v, gate.as_ptr().add(column), left);
        let residual = Y::load_up_to(v, residual.as_ptr().add(column), left);
        v.mul_add(gate, y, residual)
    }
}
