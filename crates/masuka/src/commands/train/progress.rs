//! What a person sees while an adapter is trained: a bar on a terminal, plain lines elsewhere; all of it on stderr.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use masuka_training::dataset::Dataset;
use masuka_training::memory::MemoryEstimate;
use masuka_training::observer::{Preparation, Sample, StepReport, TrainingObserver, Wish};

use crate::interrupt::Interrupt;

const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);
const TEMPLATE: &str = "{prefix} {bar:24} {pos}/{len} {msg}";

/// Shows a training and carries the user's wish to stop.
pub struct TrainingProgress {
    interrupt: Interrupt,
    on_terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<(String, ProgressBar)>,
    last_line: Option<Instant>,
}

impl TrainingProgress {
    /// Shows nothing yet.
    pub fn new(interrupt: Interrupt) -> Self {
        let on_terminal = io::stderr().is_terminal();
        Self { interrupt, on_terminal, state: Mutex::default() }
    }

    /// Leaves the last bar as it is.
    pub fn end(&self) {
        if let Some((_, bar)) = self.state().bar.take() {
            bar.abandon();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `done` of `total` of `what`, with `message`.
    fn show(&self, what: &str, done: usize, total: usize, message: &str) {
        let mut state = self.state();
        if self.on_terminal {
            if state.bar.as_ref().is_none_or(|(shown, _)| shown != what) {
                let former = state.bar.replace((what.to_owned(), bar(what, total)));
                former.inspect(|(_, bar)| bar.abandon());
            }
            if let Some((_, bar)) = &state.bar {
                bar.set_position(done as u64);
                bar.set_message(message.to_owned());
            }
            return;
        }
        let is_due = state.last_line.is_none_or(|last| last.elapsed() >= PLAIN_LINE_EVERY);
        if is_due || done == total {
            state.last_line = Some(Instant::now());
            eprintln!("{what} {done}/{total} {message}");
        }
    }

    fn say(&self, line: &str) {
        match &self.state().bar {
            Some((_, bar)) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl TrainingObserver for TrainingProgress {
    fn dataset(&self, dataset: &Dataset, memory: &MemoryEstimate) {
        let mib = |bytes: u64| bytes >> 20;
        self.say(&format!(
            "{} pictures; weights {} MiB, adapter and optimiser {} MiB, activations {} to {} MiB",
            dataset.pictures.len(),
            mib(memory.transformer),
            mib(memory.adapter),
            mib(memory.activations_of_inputs),
            mib(memory.activations_of_everything)
        ));
        for rejected in &dataset.rejected {
            self.say(&format!("left out: `{}` {}", rejected.path.display(), rejected.reason));
        }
    }

    fn preparing(&self, what: Preparation, done: usize, total: usize) {
        let what = match what {
            Preparation::Priors => "pictures of the base model",
            Preparation::Encode => "encode",
        };
        self.show(what, done, total, "");
    }

    fn step(&self, report: &StepReport) {
        let message = format!(
            "loss {:.4} (smooth {:.4}), lr {:.2e}, {:.2} steps/s, {} left",
            report.loss,
            report.smoothed_loss,
            report.learning_rate,
            report.steps_per_second,
            clock(report.eta_seconds)
        );
        self.show("train", report.step, report.total_steps, &message);
    }

    fn sample(&self, sample: &Sample<'_>) {
        self.say(&format!("sample of step {}: {}", sample.step, sample.prompt));
    }

    fn checkpoint(&self, path: &Path, _step: usize) {
        if !self.on_terminal {
            self.say(&format!("kept {}", path.display()));
        }
    }

    fn wish(&self) -> Wish {
        if self.interrupt.is_asked() { Wish::Stop } else { Wish::Continue }
    }
}

fn bar(what: &str, total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style).with_prefix(what.to_owned())
}

/// `75.0` as `1:15`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!([0.4, 75.0, 3675.0].map(clock), ["0:00", "1:15", "1:01:15"]);
    }
}
