//! Softmax as its definition says, in f64. It is called by tests only.
#![cfg(test)]

pub(super) fn softmax(x: &[f32], d: usize) -> Vec<f32> {
    let row = |row: &[f32]| {
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = row.iter().map(|x| f64::from(x - highest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(move |weight| (weight / sum) as f32).collect::<Vec<_>>()
    };
    x.chunks_exact(d).flat_map(row).collect()
}
