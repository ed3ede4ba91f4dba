//! Heun's method (arXiv:2206.00364, algorithm 1 without churn) on dx/dσ = v.

use candle_core::Tensor;

use super::{Sampler, SamplerStep, VelocityFn};
use crate::error::Result;

/// Second order: the mean of the velocities at both ends of a step; at the last step, where σ becomes 0, Euler's.
pub struct Heun;

impl Sampler for Heun {
    fn step(
        &self,
        latents: &Tensor,
        sigma: f32,
        next: f32,
        velocity: &mut VelocityFn<'_>,
    ) -> Result<SamplerStep> {
        let v = velocity(latents, sigma)?;
        let predicted = (latents - (&v * f64::from(sigma))?)?;
        let step = f64::from(next - sigma);
        let euler = (latents + (&v * step)?)?;
        if next == 0.0 {
            return Ok(SamplerStep { latents: euler, predicted });
        }
        let mean = ((v + velocity(&euler, next)?)? * 0.5)?;
        Ok(SamplerStep { latents: (latents + (mean * step)?)?, predicted })
    }
}
