//! How fast steps go, over the latest of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps that the rate is taken over.
const WINDOW: usize = 50;

/// A stopwatch for steps.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    started: Option<Instant>,
    latest: VecDeque<Duration>,
}

impl Speed {
    /// A step begins.
    pub(crate) fn start(&mut self) {
        self.started = Some(Instant::now());
    }

    /// The step is done.
    pub(crate) fn stop(&mut self) {
        if let Some(started) = self.started.take() {
            self.latest.push_back(started.elapsed());
            if self.latest.len() > WINDOW {
                self.latest.pop_front();
            }
        }
    }

    /// Steps a second.
    pub(crate) fn steps_per_second(&self) -> f64 {
        let time = self.latest.iter().sum::<Duration>().as_secs_f64();
        self.latest.len() as f64 / time.max(f64::MIN_POSITIVE)
    }
}
