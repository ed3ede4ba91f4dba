//! Attention as its definition says.

use super::{AttentionShape, Qkv, Scoring, Strides};

/// softmax(q·kᵀ·scale + bias)·v with f64 sums, numbers in f32.
pub fn attention(
    shape: AttentionShape,
    qkv: &Qkv<'_, f32>,
    scoring: &Scoring<'_>,
    out: &mut [f32],
    out_strides: Strides,
) {
    let AttentionShape { b, h, l_q, l_k, d } = shape;
    let at = |strides: Strides, b, h, l| b * strides.b + h * strides.h + l * strides.l;
    for (b, h, i) in (0..b).flat_map(|b| (0..h).flat_map(move |h| (0..l_q).map(move |i| (b, h, i))))
    {
        let q = &qkv.q.data[at(qkv.q.strides, b, h, i)..][..d];
        let seen = if scoring.causal { i + l_k - l_q + 1 } else { l_k };
        let scores: Vec<f64> = (0..seen)
            .map(|j| {
                let k = &qkv.k.data[at(qkv.k.strides, b, h, j)..][..d];
                let product: f64 = q.iter().zip(k).map(|(q, k)| f64::from(q * k)).sum();
                let bias =
                    scoring.bias.map_or(0.0, |x| x.data[h * x.h_stride + i * x.q_stride + j]);
                product * f64::from(scoring.scale) + f64::from(bias)
            })
            .collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let y = &mut out[at(out_strides, b, h, i)..][..d];
        for (c, y) in y.iter_mut().enumerate() {
            let value = |j| f64::from(qkv.v.data[at(qkv.v.strides, b, h, j) + c]);
            let mixed: f64 = weights.iter().enumerate().map(|(j, weight)| weight * value(j)).sum();
            *y = (mixed / sum) as f32;
        }
    }
}
