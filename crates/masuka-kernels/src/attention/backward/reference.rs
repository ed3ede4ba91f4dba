//! The gradients of attention as their definition says.
#![cfg(test)]

use super::{AttentionShape, Qkv, Strides, View};

/// dq, dk and dv of softmax(q·kᵀ·scale)·v from `grad`, each (b, h, l, d) in memory, with f64 sums.
pub fn attention_backward(
    shape: AttentionShape,
    qkv: &Qkv<'_, f32>,
    scale: f32,
    grad: View<'_, f32>,
) -> [Vec<f32>; 3] {
    let AttentionShape { b, h, l_q, l_k, d } = shape;
    let row = |view: &View<'_, f32>, [b, h, l]: [usize; 3]| -> Vec<f64> {
        let Strides { b: by_b, h: by_h, l: by_l } = view.strides;
        let row = &view.data[b * by_b + h * by_h + l * by_l..][..d];
        row.iter().map(|x| f64::from(*x)).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let [mut dq, mut dk, mut dv] = [l_q, l_k, l_k].map(|l| vec![0.0_f64; b * h * l * d]);
    for (b, h, i) in (0..b).flat_map(|b| (0..h).flat_map(move |h| (0..l_q).map(move |i| (b, h, i))))
    {
        let (q, grad) = (row(&qkv.q, [b, h, i]), row(&grad, [b, h, i]));
        let keys: Vec<_> = (0..l_k).map(|j| row(&qkv.k, [b, h, j])).collect();
        let values: Vec<_> = (0..l_k).map(|j| row(&qkv.v, [b, h, j])).collect();
        let scores: Vec<_> = keys.iter().map(|k| dot(&q, k) * f64::from(scale)).collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<_> = scores.iter().map(|score| (score - highest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let weights: Vec<_> = weights.iter().map(|weight| weight / sum).collect();
        let slopes: Vec<_> = values.iter().map(|v| dot(&grad, v)).collect();
        let along = dot(&weights, &slopes);
        let head = b * shape.h + h;
        for j in 0..l_k {
            let slope = weights[j] * (slopes[j] - along) * f64::from(scale);
            for c in 0..d {
                dq[(head * l_q + i) * d + c] += slope * keys[j][c];
                dk[(head * l_k + j) * d + c] += slope * q[c];
                dv[(head * l_k + j) * d + c] += weights[j] * grad[c];
            }
        }
    }
    [dq, dk, dv].map(|x| x.into_iter().map(|x| x as f32).collect())
}
