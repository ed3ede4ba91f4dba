//! Samplers walk from noise to latents along a schedule. They work on f32 latents and know no model.

mod schedule; // sigmas of a flow-matching schedule
mod euler; // first order
mod heun; // second order

use candle_core::Tensor;

use crate::error::Result;
use crate::pipelines::SamplerName;

pub use euler::Euler;
pub use heun::Heun;
pub use schedule::{FlowMatchSchedule, ScheduleConfig};

/// The velocity that a denoiser predicts for latents at a sigma.
pub type VelocityFn<'a> = dyn FnMut(&Tensor, f32) -> Result<Tensor> + 'a;

/// Where a step led.
pub struct SamplerStep {
    /// The latents at the next sigma.
    pub latents: Tensor,
    /// The clean latents as they were predicted at this step.
    pub predicted: Tensor,
}

/// A rule to walk from one sigma to the next.
pub trait Sampler: Send + Sync {
    /// Takes `latents` (f32) from `sigma` to `next`.
    ///
    /// # Errors
    /// What `velocity` fails with, or the device.
    fn step(
        &self,
        latents: &Tensor,
        sigma: f32,
        next: f32,
        velocity: &mut VelocityFn<'_>,
    ) -> Result<SamplerStep>;
}

/// The sampler of that name.
pub fn sampler(name: SamplerName) -> &'static dyn Sampler {
    match name {
        SamplerName::Euler => &Euler,
        SamplerName::Heun => &Heun,
    }
}
