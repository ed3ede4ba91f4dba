//! RMSNorm (arXiv:1910.07467) and rotation as their definitions say, in f64. They are called by tests only.
#![cfg(test)]

use super::{HeadsShape, Rotation};

/// The result as (b, l, h, d) without gaps.
pub(super) fn rotate(
    shape: HeadsShape,
    x: &[f32],
    (stride, batch_stride): (usize, usize),
    rotation: &Rotation<'_>,
) -> Vec<f32> {
    let HeadsShape { b, l, h, d } = shape;
    let mut y = Vec::with_capacity(b * l * h * d);
    for (b, l, h) in (0..b).flat_map(|b| (0..l).flat_map(move |l| (0..h).map(move |h| (b, l, h)))) {
        let head = &x[b * batch_stride + l * stride + h * d..][..d];
        let mut head: Vec<f64> = head.iter().map(|x| f64::from(*x)).collect();
        if let Some((weight, eps)) = rotation.norm {
            let mean_square = head.iter().map(|x| x * x).sum::<f64>() / d as f64;
            let rms = (mean_square + f64::from(eps)).sqrt();
            head.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x / rms * f64::from(*weight));
        }
        for (i, pair) in head.chunks_exact(2).enumerate() {
            let (cos, sin) = (rotation.cos[l * d / 2 + i], rotation.sin[l * d / 2 + i]);
            let (cos, sin) = (f64::from(cos), f64::from(sin));
            y.push((pair[0] * cos - pair[1] * sin) as f32);
            y.push((pair[1] * cos + pair[0] * sin) as f32);
        }
    }
    y
}

/// The gradient of x as (b, l, h, d) without gaps, for x and the result's gradient in rows of the same strides.
pub(super) fn rotate_backward(
    shape: HeadsShape,
    (x, grad): (&[f32], &[f32]),
    (stride, batch_stride): (usize, usize),
    rotation: &Rotation<'_>,
) -> Vec<f32> {
    let HeadsShape { b, l, h, d } = shape;
    let (weight, eps) = rotation.norm.expect("a norm");
    let mut dx = Vec::with_capacity(b * l * h * d);
    for (b, l, h) in (0..b).flat_map(|b| (0..l).flat_map(move |l| (0..h).map(move |h| (b, l, h)))) {
        let head = |from: &[f32]| -> Vec<f64> {
            let head = &from[b * batch_stride + l * stride + h * d..][..d];
            head.iter().map(|x| f64::from(*x)).collect()
        };
        let (x, grad) = (head(x), head(grad));
        let mut turned = Vec::with_capacity(d);
        for (i, pair) in grad.chunks_exact(2).enumerate() {
            let (cos, sin) = (rotation.cos[l * d / 2 + i], rotation.sin[l * d / 2 + i]);
            let (cos, sin) = (f64::from(cos), f64::from(sin));
            turned.push((pair[0] * cos + pair[1] * sin) * f64::from(weight[2 * i]));
            turned.push((pair[1] * cos - pair[0] * sin) * f64::from(weight[2 * i + 1]));
        }
        let mean_square = x.iter().map(|x| x * x).sum::<f64>() / d as f64;
        let inverse = 1.0 / (mean_square + f64::from(eps)).sqrt();
        let along = x.iter().zip(&turned).map(|(x, grad)| x * grad).sum::<f64>() / d as f64;
        let along = along * inverse * inverse;
        dx.extend(x.iter().zip(&turned).map(|(x, grad)| ((grad - x * along) * inverse) as f32));
    }
    dx
}
