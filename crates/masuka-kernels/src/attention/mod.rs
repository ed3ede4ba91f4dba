//! Scaled dot-product attention, softmax(q·kᵀ·scale + bias)·v, without a buffer of l_q × l_k
//! (FlashAttention, arXiv:2205.14135).
//!
//! Axis key: q and the result are (b, h, l_q, d), k and v are (b, h, l_k, d), each a view with strides of its own, so
//! that (b, l, h, d) in memory needs no copy.

mod reference; // what is meant
mod flash; // blocks of queries walk over blocks of keys
mod bound; // how high a query's scores can be
mod pack; // keys and values of a head, packed for the products
mod backward; // gradients, block by block of queries
mod softmax; // one block of scores to weights, with the running maximum and sum

pub use backward::{AttentionGradients, attention_backward};
pub use reference::attention as reference_attention;

use crate::level::Simd;
use crate::vector::Number;

/// Sizes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Batch.
    pub b: usize,
    /// Heads.
    pub h: usize,
    /// Queries.
    pub l_q: usize,
    /// Keys.
    pub l_k: usize,
    /// Width of a head.
    pub d: usize,
}

/// Distances in numbers between neighbours along the axes b, h and l; d lies beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strides {
    /// From batch element to batch element.
    pub b: usize,
    /// From head to head.
    pub h: usize,
    /// From token to token.
    pub l: usize,
}

impl Strides {
    /// Of (b, h, l, d) in memory.
    pub const fn bhld(h: usize, l: usize, d: usize) -> Self {
        Self { b: h * l * d, h: l * d, l: d }
    }

    /// Of (b, l, h, d) in memory.
    pub const fn blhd(h: usize, l: usize, d: usize) -> Self {
        Self { b: h * l * d, h: d, l: h * d }
    }

    fn reach(self, [b, h, l, d]: [usize; 4]) -> usize {
        match [b, h, l, d].contains(&0) {
            true => 0,
            false => (b - 1) * self.b + (h - 1) * self.h + (l - 1) * self.l + d,
        }
    }
}

/// A slice seen through strides.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    /// Starts with the first number of the view.
    pub data: &'a [T],
    /// How to walk over it.
    pub strides: Strides,
}

/// f32 added to the scaled scores.
#[derive(Debug, Clone, Copy)]
pub struct ScoreBias<'a> {
    /// Starts with the number for the first query and key of the first head.
    pub data: &'a [f32],
    /// Distance between heads; 0 where all heads share it.
    pub h_stride: usize,
    /// Distance between queries; keys lie beside each other.
    pub q_stride: usize,
}

/// What a softmax sees besides q·kᵀ.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// The factor of q·kᵀ, usually 1/√d.
    pub scale: f32,
    /// Added to the scaled scores, the same for every batch element.
    pub bias: Option<ScoreBias<'a>>,
    /// Query i sees the keys up to i + l_k - l_q only.
    pub causal: bool,
}

/// Where queries, keys and values lie.
#[derive(Debug, Clone, Copy)]
pub struct Qkv<'a, T> {
    /// (b, h, l_q, d)
    pub q: View<'a, T>,
    /// (b, h, l_k, d)
    pub k: View<'a, T>,
    /// (b, h, l_k, d)
    pub v: View<'a, T>,
}

/// Attention. In f32 all products, sums and the softmax are f32. In bf16 the scores, the softmax and the sums are f32;
/// the softmax's weights are rounded to bf16 before they meet the values, as in every flash kernel.
///
/// # Panics
/// When a slice is shorter than its view, there are no keys, or `causal` with more queries than keys.
pub fn attention<T: Number>(
    shape: AttentionShape,
    qkv: &Qkv<'_, T>,
    scoring: &Scoring<'_>,
    out: &mut [T],
    out_strides: Strides,
) {
    run(Simd::active(), shape, qkv, scoring, (out, out_strides));
}

fn run<T: Number>(
    simd: Simd,
    shape: AttentionShape,
    qkv: &Qkv<'_, T>,
    scoring: &Scoring<'_>,
    (out, out_strides): (&mut [T], Strides),
) {
    let AttentionShape { b, h, l_q, l_k, d } = shape;
    let queries = [b, h, l_q, d];
    assert!(qkv.q.data.len() >= qkv.q.strides.reach(queries), "q is too short for {shape:?}");
    assert!(out.len() >= out_strides.reach(queries), "the result is too short for {shape:?}");
    for (name, view) in [("k", &qkv.k), ("v", &qkv.v)] {
        let reach = view.strides.reach([b, h, l_k, d]);
        assert!(view.data.len() >= reach, "{name} is too short for {shape:?}");
    }
    if let Some(bias) = scoring.bias {
        let strides = Strides { b: 0, h: bias.h_stride, l: bias.q_stride };
        assert!(bias.data.len() >= strides.reach([1, h, l_q, l_k]), "the bias is too short");
    }
    assert!(!scoring.causal || l_q <= l_k, "{l_q} causal queries see {l_k} keys");
    assert!(l_k > 0, "attention to no keys");
    if queries.contains(&0) {
        return;
    }
    flash::attention(simd, shape, qkv, scoring, (out, out_strides));
}

#[cfg(test)]
mod tests; // every level against the plain loops
