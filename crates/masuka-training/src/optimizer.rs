//! AdamW (arXiv:1711.05101) as PyTorch's `torch.optim.AdamW` computes it, the learning rate's schedule as diffusers'
//! `optimization.py`, and the exponential moving average of the parameters.

use std::fmt;
use std::str::FromStr;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::numbers;

/// The constants of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// How slowly the mean of the gradients moves.
    pub beta1: f64,
    /// How slowly the mean of their squares moves.
    pub beta2: f64,
    /// Added to the root of the squares.
    pub eps: f64,
    /// What each step takes off the parameters, as a part of learning rate times parameter.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// PyTorch's, with the weight decay of `train_dreambooth_lora_flux.py`.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4 }
    }
}

/// The optimiser and its state.
pub struct AdamW {
    config: AdamWConfig,
    /// Steps taken.
    steps: usize,
    /// Mean of the gradients and of their squares, for each parameter.
    moments: Vec<[Tensor; 2]>,
}

impl AdamW {
    /// An optimiser of `parameters` that has taken no step.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(config: AdamWConfig, parameters: &[Var]) -> Result<Self> {
        let zeros = |var: &Var| Ok([var.zeros_like()?, var.zeros_like()?]);
        let moments = parameters.iter().map(zeros).collect::<candle_core::Result<_>>()?;
        Ok(Self { config, steps: 0, moments })
    }

    /// One that goes on after `steps` steps.
    pub fn resume(config: AdamWConfig, steps: usize, moments: Vec<[Tensor; 2]>) -> Self {
        Self { config, steps, moments }
    }

    /// Mean of the gradients and of their squares, for each parameter.
    pub fn moments(&self) -> &[[Tensor; 2]] {
        &self.moments
    }

    /// Moves `parameters` against `gradients`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(
        &mut self,
        parameters: &[Var],
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        self.steps += 1;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let factors = Factors {
            beta1,
            beta2,
            eps,
            kept: 1.0 - learning_rate * weight_decay,
            step_size: learning_rate / (1.0 - beta1.powi(steps)),
            root_correction: (1.0 - beta2.powi(steps)).sqrt(),
        };
        let moved = numbers::for_each(parameters.len(), |i| {
            let (parameter, moments) = (parameters[i].as_detached_tensor(), &self.moments[i]);
            let gradient = &gradients.tensors()[i];
            match parameter.device().is_cpu() {
                true => factors.one_pass(&parameter, gradient, moments),
                false => factors.by_tensors(&parameter, gradient, moments),
            }
        })?;
        for ((parameter, moments), [value, mean, square]) in
            parameters.iter().zip(&mut self.moments).zip(moved)
        {
            *moments = [mean, square];
            parameter.set(&value)?;
        }
        Ok(())
    }
}

/// The numbers of one step.
struct Factors {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// What weight decay leaves of a parameter.
    kept: f64,
    step_size: f64,
    root_correction: f64,
}

impl Factors {
    /// The new parameter, mean and square.
    fn by_tensors(
        &self,
        parameter: &Tensor,
        gradient: &Tensor,
        [mean, square]: &[Tensor; 2],
    ) -> Result<[Tensor; 3]> {
        let mean = ((mean * self.beta1)? + (gradient * (1.0 - self.beta1))?)?;
        let square = ((square * self.beta2)? + (gradient.sqr()? * (1.0 - self.beta2))?)?;
        let spread = ((square.sqrt()? / self.root_correction)? + self.eps)?;
        let value = ((parameter * self.kept)? - ((&mean / spread)? * self.step_size)?)?;
        Ok([value, mean, square])
    }

    /// The same on the processor, in one pass.
    fn one_pass(
        &self,
        parameter: &Tensor,
        gradient: &Tensor,
        [mean, square]: &[Tensor; 2],
    ) -> Result<[Tensor; 3]> {
        let [beta1, beta2, eps, kept, step_size] =
            [self.beta1, self.beta2, self.eps, self.kept, self.step_size].map(|x| x as f32);
        let (new1, new2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let correction = (1.0 / self.root_correction) as f32;
        let tensors = [parameter, gradient, mean, square];
        let [mut values, mut means, mut squares] =
            [(); 3].map(|()| Vec::with_capacity(parameter.elem_count()));
        numbers::with_numbers(tensors, |[parameter, gradient, mean, square]| {
            means.extend(mean.iter().zip(gradient).map(|(mean, g)| mean * beta1 + g * new1));
            let both = square.iter().zip(gradient);
            squares.extend(both.map(|(square, g)| square * beta2 + g * g * new2));
            let all = parameter.iter().zip(&means).zip(&squares);
            values.extend(all.map(|((value, mean), square): ((&f32, &f32), &f32)| {
                let spread = square.sqrt() * correction + eps;
                value * kept - mean / spread * step_size
            }));
            Ok(())
        })?;
        let tensor = |numbers| Tensor::from_vec(numbers, parameter.shape(), parameter.device());
        Ok([tensor(values)?, tensor(means)?, tensor(squares)?])
    }
}

/// How the learning rate moves after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// Half a cosine down to zero.
    #[default]
    Cosine,
}

impl Decay {
    /// The name in requests and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
        }
    }
}

impl fmt::Display for Decay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Decay {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [Self::Constant, Self::Cosine].into_iter().find(|decay| decay.name() == name);
        known.ok_or_else(|| {
            Error::invalid("lr_scheduler", format!("`{name}`"), "is not one of constant, cosine")
        })
    }
}

/// The learning rate of every step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its height.
    pub learning_rate: f64,
    /// Steps of a straight rise from zero.
    pub warmup_steps: usize,
    /// What follows.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of `step`, from 0, of `total`.
    pub fn at(&self, step: usize, total: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * step as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Constant => self.learning_rate,
            Decay::Cosine => {
                let length = total.saturating_sub(self.warmup_steps).max(1);
                let progress = (step - self.warmup_steps) as f64 / length as f64;
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

/// The exponential moving average of parameters.
pub struct MovingAverage {
    decay: f64,
    values: Vec<Tensor>,
}

impl MovingAverage {
    /// An average that starts at `values`.
    pub fn new(decay: f64, values: Vec<Tensor>) -> Self {
        Self { decay, values }
    }

    /// One that starts at the present values of `parameters`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn start(decay: f64, parameters: &[Var]) -> Result<Self> {
        let values = parameters.iter().map(|var| var.as_detached_tensor().copy());
        Ok(Self::new(decay, values.collect::<candle_core::Result<_>>()?))
    }

    /// The averages, in the parameters' order.
    pub fn values(&self) -> &[Tensor] {
        &self.values
    }

    /// Takes in the values after `step` steps. Early averages forget sooner, as diffusers' `EMAModel` lets them.
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(&mut self, parameters: &[Var], step: usize) -> Result<()> {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        for (value, parameter) in self.values.iter_mut().zip(parameters) {
            let new = parameter.as_detached_tensor();
            *value = ((&*value * decay)? + (new * (1.0 - decay))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_step_in_one_pass_is_that_of_tensors() {
        let random = || Tensor::randn(0.0_f32, 1.0, (7, 33), &Device::Cpu).expect("numbers");
        let (parameter, gradient, mean) = (random(), random(), random());
        let square = random().sqr().expect("squares");
        let factors = Factors {
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            kept: 0.999,
            step_size: 1e-2,
            root_correction: 0.3,
        };
        let moments = [mean, square];
        let found = factors.one_pass(&parameter, &gradient, &moments).expect("a step");
        let expected = factors.by_tensors(&parameter, &gradient, &moments).expect("a step");
        for (found, expected) in found.iter().zip(&expected) {
            let numbers = |x: &Tensor| x.flatten_all().and_then(|x| x.to_vec1::<f32>());
            let (found, expected) = (numbers(found), numbers(expected));
            for (a, b) in found.expect("numbers").iter().zip(&expected.expect("numbers")) {
                // A few roundings each.
                assert!((a - b).abs() <= 1e-6 * (1.0 + b.abs()), "{a}, not {b}");
            }
        }
    }

    #[test]
    fn the_learning_rate_rises_then_falls() {
        let cosine = Schedule { learning_rate: 1.0, warmup_steps: 10, decay: Decay::Cosine };
        let rates: Vec<f64> = [0, 5, 10, 60, 109].map(|step| cosine.at(step, 110)).to_vec();
        assert_eq!(rates[..3], [0.0, 0.5, 1.0]);
        assert!((rates[3] - 0.5).abs() < 1e-12 && rates[4] < 3e-4, "{rates:?}");
        let constant = Schedule { warmup_steps: 0, decay: Decay::Constant, ..cosine };
        assert_eq!([0, 50, 109].map(|step| constant.at(step, 110)), [1.0; 3]);
    }
}
