//! Convolution as its definition says, in f64. It is called by tests only.
#![cfg(test)]

use super::Geometry;

/// x (y, x, c_in) with weight (c_out, c_in, ky, kx) as (y', x', c_out).
pub(super) fn conv2d(
    x: &[f32],
    (height, width): (usize, usize),
    weight: &[f32],
    bias: &[f32],
    geometry: Geometry,
) -> Vec<f32> {
    let Geometry { c_in, c_out, kernel, stride, padding_before, .. } = geometry;
    let (out_height, out_width) = (geometry.output_size(height), geometry.output_size(width));
    let mut y = Vec::with_capacity(out_height * out_width * c_out);
    for (oy, ox) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
        for c in 0..c_out {
            let mut sum = f64::from(bias[c]);
            for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                let iy = (oy * stride + ky).wrapping_sub(padding_before);
                let ix = (ox * stride + kx).wrapping_sub(padding_before);
                if iy >= height || ix >= width {
                    continue;
                }
                for i in 0..c_in {
                    let w = weight[((c * c_in + i) * kernel + ky) * kernel + kx];
                    sum += f64::from(w) * f64::from(x[(iy * width + ix) * c_in + i]);
                }
            }
            y.push(sum as f32);
        }
    }
    y
}

/// Every pixel of x (y, x, c) four times, (2y, 2x, c).
pub(super) fn upsample(x: &[f32], (height, width): (usize, usize), c: usize) -> Vec<f32> {
    let pixels = (0..2 * height).flat_map(|y| (0..2 * width).map(move |x| (y / 2, x / 2)));
    pixels.flat_map(|(y, ix)| x[(y * width + ix) * c..][..c].iter().copied()).collect()
}
