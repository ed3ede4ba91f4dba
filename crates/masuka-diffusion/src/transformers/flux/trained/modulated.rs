//! What modulation does to a stream: normed rows with factor and summand, and gated sums, with their gradients.

use candle_core::Tensor;
use masuka_kernels::aligned::unwritten;
use masuka_kernels::elementwise::{gated_add, gated_backward};
use masuka_kernels::norm::{Affine, AffineGradients, LayerNormBackward, layer_norm};
use masuka_kernels::{Number, Rows};

use super::super::LAYER_NORM_EPS;
use super::Stream;
use crate::error::Result;
use crate::layers::{AdapterGradients, Hidden, Matrix, TrainedLinear};
use crate::ops::to_f32;

/// Shift, factor (1 + scale) and gate (b, d) of one half of a block.
pub(super) struct Modulation {
    shift: Vec<f32>,
    factor: Vec<f32>,
    gate: Vec<f32>,
}

/// The modulations of a block, and what the gradients of their layer need.
pub(super) struct Modulations {
    pub(super) halves: Vec<Modulation>,
    /// (b, d)
    vec: Vec<f32>,
    hidden: Hidden,
}

/// The gradients of one [`Modulation`]; the factor's is the scale's.
pub(super) struct ModulationGradients {
    pub(super) affine: AffineGradients,
    pub(super) gate: Vec<f32>,
}

impl Modulations {
    pub(super) fn new<T: Number>(linear: &TrainedLinear<'_, T>, vec: &Tensor) -> Result<Self> {
        let (all, hidden) = linear.forward_vector(vec)?;
        let d = vec.dim(1)?;
        let chunk = |i: usize| -> Vec<f32> {
            let rows = all.numbers.chunks_exact(all.columns);
            rows.flat_map(|row| &row[i * d..(i + 1) * d]).copied().collect()
        };
        let halves = (0..all.columns / d / 3).map(|i| Modulation {
            shift: chunk(3 * i),
            factor: chunk(3 * i + 1).into_iter().map(|scale| 1.0 + scale).collect(),
            gate: chunk(3 * i + 2),
        });
        Ok(Self { halves: halves.collect(), vec: to_f32(vec)?, hidden })
    }

    /// The gradients of the layer's LoRA from those of all halves.
    pub(super) fn backward<T: Number>(
        &self,
        linear: &TrainedLinear<'_, T>,
        gradients: &[ModulationGradients],
        to: &mut AdapterGradients,
    ) -> Result<()> {
        let Some(b) = self.hidden.as_ref().map(|hidden| hidden.rows().rows()) else {
            return Ok(());
        };
        let d = self.vec.len() / b;
        let mut dy = Vec::with_capacity(3 * gradients.len() * b * d);
        for row in 0..b {
            for ModulationGradients { affine, gate } in gradients {
                for part in [&affine.summand, &affine.factor, gate] {
                    dy.extend_from_slice(&part[row * d..(row + 1) * d]);
                }
            }
        }
        let dy = Rows::new(&dy, 3 * gradients.len() * d);
        linear.backward_lora((Rows::new(&self.vec, d), &self.hidden), dy, to)?;
        Ok(())
    }
}

impl Modulation {
    /// The normed rows of `x`, modulated.
    pub(super) fn modulate<T: Number>(&self, x: &Stream) -> Matrix<T> {
        let mut y = Matrix::unwritten(x.rows(), x.d);
        let affine = Affine { factor: &self.factor, summand: &self.shift };
        layer_norm(&x.numbers, x.d, LAYER_NORM_EPS as f32, &affine, &mut y.numbers);
        y
    }

    /// Adds to `dx` the gradient that passes the norm of `x`, from the gradients of the modulated rows.
    pub(super) fn modulate_backward(
        &self,
        x: &Stream,
        grads: &[&[f32]],
        dx: &mut [f32],
    ) -> AffineGradients {
        let eps = LAYER_NORM_EPS as f32;
        LayerNormBackward { x: &x.numbers, factor: &self.factor, d: x.d, eps, grads }.add_to(dx)
    }

    /// x + gate · y
    pub(super) fn add_gated(&self, x: &Stream, y: &Matrix<f32>) -> Stream {
        let mut sum = unwritten(x.numbers.len());
        gated_add(&x.numbers, &self.gate, &y.numbers, x.d, &mut sum);
        x.with(sum)
    }

    /// The gradients of y and of the gate in [`add_gated`](Self::add_gated) from that of the sum.
    pub(super) fn add_gated_backward<T: Number>(
        &self,
        y: &Matrix<f32>,
        grad: &[f32],
    ) -> (Matrix<T>, Vec<f32>) {
        let mut dy = Matrix::unwritten(y.rows().rows(), y.columns);
        let dgate = gated_backward(grad, &self.gate, &y.numbers, y.columns, &mut dy.numbers);
        (dy, dgate)
    }
}
