//! Sigmas of a flow-matching schedule, as diffusers' `FlowMatchEulerDiscreteScheduler` makes them for FLUX
//! (diffusers 0.42.1). Arithmetic is f32 where NumPy's is, so that the tables agree to the last bit or two.

use serde::Deserialize;

use crate::error::{Error, Result};

/// `scheduler_config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ScheduleConfig {
    /// The scheduler that the file describes.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// The shift of static schedules.
    pub shift: f64,
    /// Whether the shift depends on the number of image tokens.
    pub use_dynamic_shifting: bool,
    /// mu at `base_image_seq_len` tokens.
    pub base_shift: f64,
    /// mu at `max_image_seq_len` tokens.
    pub max_shift: f64,
    /// Tokens at which mu is `base_shift`.
    pub base_image_seq_len: f64,
    /// Tokens at which mu is `max_shift`.
    pub max_image_seq_len: f64,
    /// The scale of timesteps; FLUX's transformer knows 1000 only.
    pub num_train_timesteps: usize,
    /// Stretches the schedule so that its last sigma is this.
    pub shift_terminal: Option<f64>,
    /// How a dynamic shift bends the schedule.
    pub time_shift_type: TimeShift,
    /// Karras' spacing (arXiv:2206.00364).
    pub use_karras_sigmas: bool,
    /// Even spacing of the logarithm.
    pub use_exponential_sigmas: bool,
    /// Spacing by the beta distribution: not supported.
    pub use_beta_sigmas: bool,
    /// Mochi's reversed sigmas: not supported.
    pub invert_sigmas: bool,
    /// Noise at every step: not supported.
    pub stochastic_sampling: bool,
}

/// How a dynamic shift bends the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeShift {
    /// exp(mu) / (exp(mu) + 1/t − 1).
    #[default]
    Exponential,
    /// mu / (mu + 1/t − 1).
    Linear,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            class_name: "FlowMatchEulerDiscreteScheduler".to_owned(),
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256.0,
            max_image_seq_len: 4096.0,
            num_train_timesteps: 1000,
            shift_terminal: None,
            time_shift_type: TimeShift::Exponential,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            invert_sigmas: false,
            stochastic_sampling: false,
        }
    }
}

impl ScheduleConfig {
    /// FLUX.1-dev's and Krea's: dynamic shift.
    pub fn flux_dev() -> Self {
        Self { shift: 3.0, use_dynamic_shifting: true, ..Self::default() }
    }

    /// FLUX.1-schnell's: no shift at all.
    pub fn flux_schnell() -> Self {
        Self::default()
    }

    /// A time of 0…1 bent as the sigmas of a picture of `image_tokens` tokens are, for training.
    pub fn shifted(&self, time: f32, image_tokens: usize) -> f32 {
        let mut sigma = [time];
        shift(self, &mut sigma, image_tokens);
        sigma[0]
    }

    /// Refuses what this schedule cannot do; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::Model`] naming the option.
    pub fn validate(&self, file: &str) -> Result<()> {
        let flow_match = self.class_name.starts_with("FlowMatch");
        let refused = [
            (!flow_match, "a `_class_name` that is no flow-matching scheduler"),
            (self.num_train_timesteps != 1000, "`num_train_timesteps` other than 1000"),
            (self.use_beta_sigmas, "`use_beta_sigmas`"),
            (self.invert_sigmas, "`invert_sigmas`"),
            (self.stochastic_sampling, "`stochastic_sampling`"),
        ];
        match refused.iter().find(|(refuse, _)| *refuse) {
            None => Ok(()),
            Some((_, what)) => Err(Error::model(file, format!("{what} is not supported"))),
        }
    }
}

/// The sigmas of a walk: one for each step, then 0.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowMatchSchedule {
    sigmas: Vec<f32>,
}

impl FlowMatchSchedule {
    /// A schedule of `steps` steps for `image_tokens` tokens.
    pub fn new(config: &ScheduleConfig, steps: usize, image_tokens: usize) -> Self {
        let mut sigmas = linspace(1.0, 1.0 / steps as f64, steps);
        shift(config, &mut sigmas, image_tokens);
        if let Some(terminal) = config.shift_terminal.filter(|&t| t != 0.0) {
            stretch_to(&mut sigmas, terminal);
        }
        if config.use_karras_sigmas {
            respace(&mut sigmas, |sigma| sigma.powf(1.0 / KARRAS_RHO), |s| s.powf(KARRAS_RHO));
        } else if config.use_exponential_sigmas {
            respace(&mut sigmas, f64::ln, f64::exp);
        }
        sigmas.push(0.0);
        Self { sigmas }
    }

    /// The sigmas of each step and the one that follows it.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = (f32, f32)> {
        self.sigmas.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// All sigmas, the final 0 included.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }
}

const KARRAS_RHO: f64 = 7.0;

/// Bends `sigmas` towards noise: more tokens need more time at high noise (arXiv:2403.03206, section 5.3.2).
fn shift(config: &ScheduleConfig, sigmas: &mut [f32], image_tokens: usize) {
    if !config.use_dynamic_shifting {
        let (shift, less) = (config.shift as f32, (config.shift - 1.0) as f32);
        for t in sigmas {
            *t = shift * *t / (1.0 + less * *t);
        }
        return;
    }
    let slope = (config.max_shift - config.base_shift)
        / (config.max_image_seq_len - config.base_image_seq_len);
    let mu = image_tokens as f64 * slope + (config.base_shift - slope * config.base_image_seq_len);
    let strength = match config.time_shift_type {
        TimeShift::Exponential => mu.exp() as f32,
        TimeShift::Linear => mu as f32,
    };
    for t in sigmas {
        *t = strength / (strength + (1.0 / *t - 1.0));
    }
}

/// Stretches 1 − σ so that the last sigma is `terminal`.
fn stretch_to(sigmas: &mut [f32], terminal: f64) {
    let Some(&last) = sigmas.last() else { return };
    let scale = (1.0 - last) / (1.0 - terminal) as f32;
    for t in sigmas {
        *t = 1.0 - (1.0 - *t) / scale;
    }
}

/// Spaces `sigmas` evenly, between their first and last, on the scale of `to`; `from` is its inverse.
fn respace(sigmas: &mut [f32], to: impl Fn(f64) -> f64, from: impl Fn(f64) -> f64) {
    let (Some(&first), Some(&last)) = (sigmas.first(), sigmas.last()) else { return };
    let (first, last) = (to(f64::from(first)), to(f64::from(last)));
    let intervals = (sigmas.len().max(2) - 1) as f64;
    for (i, t) in sigmas.iter_mut().enumerate() {
        *t = from(first + i as f64 / intervals * (last - first)) as f32;
    }
}

/// `count` values from `start` to `stop`, both included, as NumPy spaces them.
fn linspace(start: f64, stop: f64, count: usize) -> Vec<f32> {
    let step = (stop - start) / (count.max(2) - 1) as f64;
    (0..count)
        .map(|i| if i + 1 == count && count > 1 { stop } else { start + i as f64 * step })
        .map(|value| value as f32)
        .collect()
}
