//! Euler's method: the flow's ordinary differential equation dx/dσ = v, first order.

use candle_core::Tensor;

use super::{Sampler, SamplerStep, VelocityFn};
use crate::error::Result;

/// First order: one velocity a step.
pub struct Euler;

impl Sampler for Euler {
    fn step(
        &self,
        latents: &Tensor,
        sigma: f32,
        next: f32,
        velocity: &mut VelocityFn<'_>,
    ) -> Result<SamplerStep> {
        let v = velocity(latents, sigma)?;
        Ok(SamplerStep {
            latents: (latents + (&v * f64::from(next - sigma))?)?,
            predicted: (latents - (&v * f64::from(sigma))?)?,
        })
    }
}
