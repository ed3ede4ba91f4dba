//! The norms as their papers write them, in f64. They are called by tests only.
#![cfg(test)]

use super::Affine;

fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64)
}

/// LayerNorm where `is_centred`, else RMSNorm.
pub(super) fn normalize(
    x: &[f32],
    (d, eps, is_centred): (usize, f32, bool),
    affine: &Affine<'_>,
) -> Vec<f32> {
    let rows_per_batch = x.len() / affine.factor.len();
    let row = |(row, x): (usize, &[f32])| -> Vec<f32> {
        let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let (mean, variance) = moments(&x);
        let mean_square = x.iter().map(|x| x * x).sum::<f64>() / d as f64;
        let (mean, square) = if is_centred { (mean, variance) } else { (0.0, mean_square) };
        let shared = row / rows_per_batch * d;
        let y = x.iter().enumerate().map(|(i, x)| {
            let factor = f64::from(affine.factor[shared + i]);
            let summand = affine.summand.get(shared + i).map_or(0.0, |x| f64::from(*x));
            ((x - mean) / (square + f64::from(eps)).sqrt() * factor + summand) as f32
        });
        y.collect()
    };
    x.chunks_exact(d).enumerate().flat_map(row).collect()
}

/// GroupNorm of x (pixels, c) in `groups` groups.
pub(super) fn group_norm(
    x: &[f32],
    groups: usize,
    (weight, bias, eps): (&[f32], &[f32], f64),
) -> Vec<f32> {
    let channels = weight.len();
    let of_group = |g: usize| {
        let is_member = |i: &usize| i % channels / (channels / groups) == g;
        let members = (0..x.len()).filter(is_member).map(|i| f64::from(x[i]));
        moments(&members.collect::<Vec<_>>())
    };
    let moments: Vec<_> = (0..groups).map(of_group).collect();
    let one = |(i, x): (usize, &f32)| {
        let c = i % channels;
        let (mean, variance) = moments[c / (channels / groups)];
        let y = (f64::from(*x) - mean) / (variance + eps).sqrt();
        (y * f64::from(weight[c]) + f64::from(bias[c])) as f32
    };
    x.iter().enumerate().map(one).collect()
}

/// The gradients of x, factor and summand of LayerNorm from `grad`, in f64.
#[cfg(test)]
pub fn layer_norm_backward(
    x: &[f32],
    factor: &[f32],
    (d, eps): (usize, f64),
    grad: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let length = x.len() / factor.len();
    let (mut dx, mut dfactor) = (Vec::new(), vec![0.0; factor.len()]);
    let mut dsummand = vec![0.0; factor.len()];
    for (row, (x, grad)) in x.chunks(d).zip(grad.chunks(d)).enumerate() {
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / d as f64;
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / d as f64;
        let inverse = 1.0 / (variance + eps).sqrt();
        let shared = row / length * d;
        let normal: Vec<f64> = x.iter().map(|x| (f64::from(*x) - mean) * inverse).collect();
        let scaled: Vec<f64> =
            (0..d).map(|i| f64::from(grad[i]) * f64::from(factor[shared + i])).collect();
        let sum = scaled.iter().sum::<f64>() / d as f64;
        let along = scaled.iter().zip(&normal).map(|(a, b)| a * b).sum::<f64>() / d as f64;
        for i in 0..d {
            dfactor[shared + i] += f64::from(grad[i]) * normal[i];
            dsummand[shared + i] += f64::from(grad[i]);
            dx.push(((scaled[i] - sum - normal[i] * along) * inverse) as f32);
        }
    }
    let narrow = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect();
    (dx, narrow(dfactor), narrow(dsummand))
}
