//! Gradients of LayerNorm with modulation.

use super::rows::{mean, variance};
use crate::aligned::with_scratch;
use crate::level::Simd;
use crate::threads::SharedPtr;
use crate::token_blocks::sum_blocks;
use crate::vector::{self, Number, Vectors, Work};

/// y = (x - mean) / √(variance + eps) · factor + summand, and the gradient of y.
#[derive(Debug, Clone, Copy)]
pub struct LayerNormBackward<'a> {
    /// (b, l, d)
    pub x: &'a [f32],
    /// (b, d)
    pub factor: &'a [f32],
    /// Channels of a token.
    pub d: usize,
    /// Of the norm.
    pub eps: f32,
    /// Gradients of y, (b, l, d) each, which are added.
    pub grads: &'a [&'a [f32]],
}

/// The gradients of what a normalised row is multiplied by and of what is added.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineGradients {
    /// (b, d)
    pub factor: Vec<f32>,
    /// (b, d)
    pub summand: Vec<f32>,
}

impl LayerNormBackward<'_> {
    /// Adds the gradient of x to `dx`.
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn add_to(&self, dx: &mut [f32]) -> AffineGradients {
        self.on(Simd::active(), dx)
    }

    pub(super) fn on(&self, simd: Simd, dx: &mut [f32]) -> AffineGradients {
        let d = self.d;
        assert!(d > 0 && self.x.len().is_multiple_of(d), "{} numbers in rows of {d}", self.x.len());
        let (rows, b) = (self.x.len() / d, self.factor.len() / d);
        assert_eq!(dx.len(), self.x.len(), "numbers of the gradient");
        assert!(self.grads.iter().all(|grad| grad.len() == self.x.len()), "numbers of a gradient");
        assert!(b > 0 && b * d == self.factor.len() && rows.is_multiple_of(b), "factors of {d}");
        let (dx, length) = (SharedPtr::new(dx), rows / b);
        let sums = sum_blocks((b, length), 2 * d, |rows, sums| {
            let factor = &self.factor[rows.start / length * d..][..d];
            with_scratch(d, |scaled| {
                for row in rows {
                    // SAFETY: rows do not overlap.
                    let dx = unsafe { dx.slice(row * d, d) };
                    vector::run(simd, Row { norm: self, row, factor, sums, scaled, dx });
                }
            });
        });
        let halves = sums.chunks_exact(2 * d).map(|both| both.split_at(d));
        let (factor, summand): (Vec<_>, Vec<_>) = halves.unzip();
        AffineGradients { factor: factor.concat(), summand: summand.concat() }
    }
}

struct Row<'a> {
    norm: &'a LayerNormBackward<'a>,
    row: usize,
    factor: &'a [f32],
    /// Of the factor and the summand, (d) each.
    sums: &'a mut [f32],
    /// Room for a row.
    scaled: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Work for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let d = self.dx.len();
        let part = self.row * d..(self.row + 1) * d;
        let x = &self.norm.x[part.clone()];
        let mean = mean(v, x);
        let inverse = 1.0 / (variance(v, x, mean) + self.norm.eps).sqrt();
        let (dfactor, dsummand) = self.sums.split_at_mut(d);
        let (centre, spread) = (v.splat(mean), v.splat(inverse));
        let (mut sum, mut along) = (v.splat(0.0), v.splat(0.0));
        let mut i = 0;
        while i < d {
            let left = d - i;
            // SAFETY: i < d, which all slices hold.
            unsafe {
                let x = f32::load_up_to(v, x.as_ptr().add(i), left);
                // What lies beyond the row must not count: the gradient there is zero.
                let normal = v.mul(v.sub(x, centre), spread);
                let mut grad = v.splat(0.0);
                for grads in self.norm.grads {
                    let more = f32::load_up_to(v, grads.as_ptr().add(part.start + i), left);
                    grad = v.add(grad, more);
                }
                let to = dfactor.as_mut_ptr().add(i);
                let total = v.mul_add(grad, normal, f32::load_up_to(v, to, left));
                f32::store_up_to(v, to, total, left);
                let to = dsummand.as_mut_ptr().add(i);
                let total = v.add(grad, f32::load_up_to(v, to, left));
                f32::store_up_to(v, to, total, left);
                let grad = v.mul(grad, f32::load_up_to(v, self.factor.as_ptr().add(i), left));
                f32::store_up_to(v, self.scaled.as_mut_ptr().add(i), grad, left);
                sum = v.add(sum, grad);
                along = v.mul_add(grad, normal, along);
            }
            i += V::LANES;
        }
        let (sum, along) = (v.splat(v.sum(sum) / d as f32), v.splat(v.sum(along) / d as f32));
        let mut i = 0;
        while i < d {
            let left = d - i;
            // SAFETY: as above.
            unsafe {
                let x = f32::load_up_to(v, x.as_ptr().add(i), left);
                let normal = v.mul(v.sub(x, centre), spread);
                let grad = f32::load_up_to(v, self.scaled.as_ptr().add(i), left);
                let change = v.sub(v.sub(grad, sum), v.mul(normal, along));
                let to = self.dx.as_mut_ptr().add(i);
                let total = v.mul_add(change, spread, f32::load_up_to(v, to, left));
                f32::store_up_to(v, to, total, left);
            }
            i += V::LANES;
        }
    }
}
