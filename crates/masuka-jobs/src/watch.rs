//! Progress of a running job, from the engine's observer to whoever watches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use masuka_diffusion::observer::{Stage, StepObserver, StepProgress};
use masuka_storage::bus::{Bus, Signal};
use masuka_storage::queue::Lease;
use serde_json::json;

use crate::control::Control;
use crate::lease_keeper::LeaseKeeper;
use crate::previews::Previews;

/// Watches one job.
pub(crate) struct Watch {
    pub(crate) control: Arc<Control>,
    pub(crate) keeper: LeaseKeeper,
    pub(crate) bus: Bus,
    pub(crate) lease: Lease,
    /// When the first step began.
    pub(crate) first_step: Mutex<Option<Instant>>,
    /// Set once the model is there.
    pub(crate) previews: Mutex<Option<Previews>>,
}

impl Watch {
    /// From here on, steps come with previews.
    pub(crate) fn show_previews(&self, previews: Previews) {
        *self.previews.lock().unwrap_or_else(PoisonError::into_inner) = Some(previews);
    }
}

impl StepObserver for Watch {
    fn stage_started(&self, stage: Stage) {
        if stage == Stage::Denoise {
            let mut first = self.first_step.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(Instant::now);
        }
        self.keeper.stage(&self.lease, stage.name());
    }

    fn step(&self, step: &StepProgress<'_>) {
        let first = *self.first_step.lock().unwrap_or_else(PoisonError::into_inner);
        let done = (step.image * step.total_steps + step.step) as f64;
        let all = (step.images * step.total_steps) as f64;
        let eta = first.map(|first| first.elapsed().as_secs_f64() / done * (all - done));
        let mut previews = self.previews.lock().unwrap_or_else(PoisonError::into_inner);
        let preview_url = previews.as_mut().and_then(|previews| previews.after(step));
        let progress = json!({
            "step": step.step,
            "total_steps": step.total_steps,
            "image": step.image + 1,
            "images": step.images,
            "percent": (1000.0 * done / all).round() / 10.0,
            "eta_seconds": eta.map(|eta| (eta * 10.0).round() / 10.0),
            "preview_url": preview_url,
        });
        self.keeper.progress(&self.lease, progress.clone());
        let Lease { job_id, epoch, .. } = self.lease.clone();
        self.bus.publish(&Signal::Step { job_id, epoch, progress });
    }

    fn proceed(&self) -> bool {
        self.control.interruption().is_none()
    }
}
