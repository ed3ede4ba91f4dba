//! What a person sees while pictures are made: bars on a terminal, plain lines elsewhere; all of it on stderr.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use masuka_diffusion::observer::{Stage, StepObserver, StepProgress};

use crate::interrupt::Interrupt;

const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);
const REDRAW_EVERY: Duration = Duration::from_millis(100);
const STAGES: [Stage; 4] = [Stage::Load, Stage::EncodePrompt, Stage::Denoise, Stage::DecodeLatents];

/// Shows a generation and carries the user's wish to stop.
pub struct Progress {
    interrupt: Interrupt,
    on_terminal: bool,
    state: Mutex<State>,
}

struct State {
    stage_started: Instant,
    times: Vec<(Stage, Duration)>,
    steps_done: usize,
    total_steps: usize,
    images: usize,
    image: usize,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(interrupt: Interrupt) -> Self {
        let state = State {
            stage_started: Instant::now(),
            times: Vec::new(),
            steps_done: 0,
            total_steps: 0,
            images: 0,
            image: 0,
            bar: None,
            last_line: Instant::now(),
        };
        let on_terminal = io::stderr().is_terminal();
        Self { interrupt, on_terminal, state: Mutex::new(state) }
    }

    /// Tells how many pictures of how many steps will come.
    pub fn expect(&self, images: usize, total_steps: usize) {
        let mut state = self.state();
        state.images = images;
        state.total_steps = total_steps;
    }

    /// Seconds by stage, in the order of the work.
    pub fn times(&self) -> Vec<(Stage, Duration)> {
        let state = self.state();
        let time = |stage| {
            let times = state.times.iter().filter(|(s, _)| *s == stage);
            times.map(|(_, time)| *time).sum::<Duration>()
        };
        STAGES.into_iter().map(|stage| (stage, time(stage))).collect()
    }

    /// One line about where the time went.
    pub fn print_times(&self, total: Duration) {
        let mut line = String::new();
        for (stage, time) in self.times() {
            let _ = write!(line, "{} {:.2} s", words(stage), time.as_secs_f64());
            if stage == Stage::Denoise {
                let rate = self.state().steps_done as f64 / time.as_secs_f64();
                let _ = write!(line, " ({rate:.2} it/s)");
            }
            line.push_str(", ");
        }
        eprintln!("{line}total {:.2} s", total.as_secs_f64());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step_on_terminal(&self, state: &mut State, step: &StepProgress<'_>) {
        if state.image != step.image {
            let done = state.bar.replace(picture_bar(step.image, step.images, step.total_steps));
            done.inspect(ProgressBar::abandon);
            state.image = step.image;
        }
        if let Some(bar) = &state.bar {
            bar.set_position(step.step as u64);
        }
    }

    fn step_as_line(&self, state: &mut State, step: &StepProgress<'_>) {
        let StepProgress { step: done, total_steps, image, images, .. } = *step;
        if done < total_steps && state.last_line.elapsed() < PLAIN_LINE_EVERY {
            return;
        }
        state.last_line = Instant::now();
        let rate = state.steps_done as f64 / state.stage_seconds(Stage::Denoise);
        let left = ((images - image) * total_steps - done) as f64 / rate;
        let picture = image + 1;
        eprintln!(
            "picture {picture}/{images}: step {done}/{total_steps}, {rate:.2} it/s, {left:.0} s left"
        );
    }
}

impl State {
    /// The time spent in `stage`, which is under way.
    fn stage_seconds(&self, stage: Stage) -> f64 {
        let past = self.times.iter().filter(|(s, _)| *s == stage).map(|(_, time)| *time);
        (past.sum::<Duration>() + self.stage_started.elapsed()).as_secs_f64()
    }
}

impl StepObserver for Progress {
    fn stage_started(&self, stage: Stage) {
        let mut state = self.state();
        state.stage_started = Instant::now();
        if !self.on_terminal {
            if stage == Stage::Load && state.times.is_empty() {
                eprintln!("loading the model");
            }
            return;
        }
        let next = state.times.iter().filter(|(s, _)| *s == Stage::DecodeLatents).count();
        let bar = match stage {
            Stage::Denoise => {
                state.image = next;
                picture_bar(next, state.images, state.total_steps)
            }
            _ => spinner(words(stage)),
        };
        state.bar = Some(bar);
    }

    fn stage_finished(&self, stage: Stage) {
        let mut state = self.state();
        let time = state.stage_started.elapsed();
        state.times.push((stage, time));
        if let Some(bar) = state.bar.take() {
            if stage == Stage::Denoise { bar.abandon() } else { bar.finish_and_clear() }
        }
    }

    fn step(&self, progress: &StepProgress<'_>) {
        let mut state = self.state();
        state.steps_done += 1;
        if self.on_terminal {
            self.step_on_terminal(&mut state, progress);
        } else {
            self.step_as_line(&mut state, progress);
        }
    }

    fn proceed(&self) -> bool {
        !self.interrupt.is_asked()
    }
}

fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Load => "load",
        Stage::EncodePrompt => "encode prompt",
        Stage::Denoise => "denoise",
        Stage::DecodeLatents => "decode",
    }
}

fn spinner(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(REDRAW_EVERY);
    bar
}

/// The bar of picture `image` (from 0), one tick a step.
fn picture_bar(image: usize, images: usize, total_steps: usize) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(total_steps as u64), target);
    bar.set_message(format!("picture {}/{images}", image + 1));
    bar.set_style(picture_style().unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(REDRAW_EVERY);
    bar
}

fn picture_style() -> Result<ProgressStyle, indicatif::style::TemplateError> {
    let template = "{msg} {bar:30} {pos}/{len} {pace}";
    Ok(ProgressStyle::with_template(template)?.with_key("pace", write_pace))
}

/// Steps a second and the time left, over all steps done so far; nothing before the first.
fn write_pace(state: &ProgressState, out: &mut dyn Write) {
    let (done, total) = (state.pos() as f64, state.len().unwrap_or_default() as f64);
    let seconds = state.elapsed().as_secs_f64();
    if done > 0.0 && seconds > 0.0 {
        let left = (total - done) * seconds / done;
        let _ = write!(out, "{:.2} it/s, {left:.0} s left", done / seconds);
    }
}
