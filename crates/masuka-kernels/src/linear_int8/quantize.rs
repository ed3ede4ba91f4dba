//! Numbers as bytes. A row of x uses all 256 values between its smallest and its largest number, so that what GELU
//! makes, which is nearly all positive, does not waste half of them; a row of W is symmetric.

use crate::Simd;
use crate::vector::{self, Number, Vectors, Work};

/// x ≈ scale · (q - offset) for the bytes q of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RowScale {
    pub scale: f32,
    /// The byte of zero, 0 to 255.
    pub offset: i32,
}

/// Adding it to a number below 2²² leaves the nearest integer in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;

/// Lanes of the loops that look for the smallest and the largest number.
const LANES: usize = 32;

/// Writes `x` as bytes, zeros behind it. A row that holds NaN or an infinity gets the scale NaN.
pub(super) fn quantize_row<T: Number>(simd: Simd, x: &[T], bytes: &mut [u8]) -> RowScale {
    vector::run(simd, Quantize { x, bytes })
}

struct Quantize<'a, T> {
    x: &'a [T],
    bytes: &'a mut [u8],
}

impl<T: Number> Work for Quantize<'_, T> {
    type Output = RowScale;

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) -> RowScale {
        let (low, high, poison) = range(self.x);
        let step = (high - low) / 255.0;
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let offset = (-low * inverse).round().clamp(0.0, 255.0);
        let (bytes, rest) = self.bytes.split_at_mut(self.x.len());
        for (byte, x) in bytes.iter_mut().zip(self.x) {
            let q = x.to_f32() * inverse + offset;
            let q = if q > 255.0 { 255.0 } else { q };
            let q = if q < 0.0 { 0.0 } else { q };
            *byte = (q + ROUNDER).to_bits() as u8;
        }
        rest.fill(0);
        RowScale { scale: step + poison, offset: offset as i32 }
    }
}

/// The smallest number or 0, the largest or 0, and 0 or NaN if any is not finite.
#[inline(always)]
fn range<T: Number>(x: &[T]) -> (f32, f32, f32) {
    let (mut low, mut high, mut poison) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let mut see = |lane: usize, x: f32| {
        low[lane] = if x < low[lane] { x } else { low[lane] };
        high[lane] = if x > high[lane] { x } else { high[lane] };
        poison[lane] += x * 0.0;
    };
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        (0..LANES).for_each(|lane| see(lane, chunk[lane].to_f32()));
    }
    chunks.remainder().iter().enumerate().for_each(|(lane, x)| see(lane, x.to_f32()));
    let low = low.into_iter().fold(0.0, f32::min);
    let high = high.into_iter().fold(0.0, f32::max);
    (low, high, poison.into_iter().sum())
}

/// Writes a row of W as bytes of -127 to 127 and returns the scale, w ≈ scale · q, and the sum of the bytes. A row that
/// holds NaN or an infinity gets the scale NaN.
pub(super) fn quantize_weight_row(simd: Simd, row: &[f32], bytes: &mut [i8]) -> (f32, i32) {
    vector::run(simd, QuantizeWeight { row, bytes })
}

struct QuantizeWeight<'a> {
    row: &'a [f32],
    bytes: &'a mut [i8],
}

impl Work for QuantizeWeight<'_> {
    type Output = (f32, i32);

    #[inline(always)]
    fn run<V: Vectors>(self, _: V) -> (f32, i32) {
        let (low, high, poison) = range(self.row);
        let scale = high.max(-low) / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (bytes, rest) = self.bytes.split_at_mut(self.row.len());
        for (byte, w) in bytes.iter_mut().zip(self.row) {
            *byte = (w * inverse + ROUNDER).to_bits() as i8;
        }
        rest.fill(0);
        (scale + poison, bytes.iter().map(|q| i32::from(*q)).sum())
    }
}
