//! Why a running job should stop: the user asks, the process ends, or the job belongs to another worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether this process shall end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Stop {
    /// Asks; the running job is put back as soon as it can be interrupted.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
        self.wake.notify_one(); // for one that has not begun to wait
    }

    /// Whether it was asked.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Returns once it is asked.
    pub(crate) async fn asked(&self) {
        while !self.is_asked() {
            self.wake.notified().await;
        }
    }
}

/// What interrupts a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The user.
    Cancelled,
    /// The user, for a while.
    Paused,
    /// Another worker has it.
    Lost,
    /// This process ends.
    Stopped,
}

/// Shared between the engine, which asks, and the lease keeper, which knows.
#[derive(Debug)]
pub(crate) struct Control {
    cancelled: AtomicBool,
    paused: AtomicBool,
    /// The user wants a checkpoint.
    saves: AtomicBool,
    lost: AtomicBool,
    stop: Stop,
}

impl Control {
    pub(crate) fn new(stop: Stop) -> Self {
        let no = || AtomicBool::new(false);
        Self { cancelled: no(), paused: no(), saves: no(), lost: no(), stop }
    }

    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::SeqCst);
    }

    pub(crate) fn save(&self) {
        self.saves.store(true, Ordering::SeqCst);
    }

    /// Whether a checkpoint is wanted that was not written yet.
    pub(crate) fn wants_save(&self) -> bool {
        self.saves.load(Ordering::SeqCst)
    }

    pub(crate) fn saved(&self) {
        self.saves.store(false, Ordering::SeqCst);
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// The strongest reason to stop, if there is one.
    pub(crate) fn interruption(&self) -> Option<Interruption> {
        if self.lost.load(Ordering::SeqCst) {
            Some(Interruption::Lost)
        } else if self.cancelled.load(Ordering::SeqCst) {
            Some(Interruption::Cancelled)
        } else if self.paused.load(Ordering::SeqCst) {
            Some(Interruption::Paused)
        } else {
            self.stop.is_asked().then_some(Interruption::Stopped)
        }
    }
}
