//! The functions as their definitions say, in f64. They are called by tests only.
#![cfg(test)]

use super::Activation;

/// The error function by its series and, where that cancels, by its asymptotic expansion.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        let square = x * x;
        let series = 1.0 - 0.5 / square + 0.75 / square.powi(2) - 1.875 / square.powi(3);
        return x.signum() - (-square).exp() / (x * std::f64::consts::PI.sqrt()) * series;
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

pub(super) fn activation(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::GeluTanh => {
            let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + z.tanh())
        }
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
    }
}
