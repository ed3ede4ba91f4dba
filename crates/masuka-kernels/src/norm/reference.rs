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
