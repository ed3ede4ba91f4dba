//! The loss of every step, and a smoothed one that a person can follow.

use std::fmt::Write;

/// How much of the smoothed loss stays at each step.
const SMOOTHING: f64 = 0.98;

/// The losses of all steps so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LossCurve {
    losses: Vec<f32>,
    smoothed: f64,
    /// The weight that `smoothed` has gathered, below 1 at the beginning.
    weight: f64,
}

impl LossCurve {
    /// The curve of `losses`.
    pub fn new(losses: Vec<f32>) -> Self {
        let mut curve = Self::default();
        losses.into_iter().for_each(|loss| curve.push(loss));
        curve
    }

    /// Takes in the loss of one more step.
    pub fn push(&mut self, loss: f32) {
        self.losses.push(loss);
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * f64::from(loss);
        self.weight = SMOOTHING * self.weight + (1.0 - SMOOTHING);
    }

    /// Steps so far.
    pub fn steps(&self) -> usize {
        self.losses.len()
    }

    /// The loss of each step.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The exponential moving average of the losses; not a number before the first.
    pub fn smoothed(&self) -> f64 {
        self.smoothed / self.weight
    }

    /// `step,loss`, a line a step.
    pub fn to_csv(&self) -> String {
        let mut csv = "step,loss\n".to_owned();
        for (index, loss) in self.losses.iter().enumerate() {
            let _ = writeln!(csv, "{},{loss}", index + 1);
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_starts_at_the_first_loss_and_follows_slowly() {
        let mut curve = LossCurve::new(vec![2.0]);
        assert!((curve.smoothed() - 2.0).abs() < 1e-6);
        (0..500).for_each(|_| curve.push(1.0));
        assert!((curve.smoothed() - 1.0).abs() < 1e-3);
        assert!(LossCurve::new(vec![0.5, 0.25]).to_csv().ends_with("1,0.5\n2,0.25\n"));
    }
}
