//! Gradients of attention. The weights are computed again, one block of queries at a time and turned, (keys, queries), so
//! that the softmax runs down columns and nothing of l_q × l_k is held. A task is a head, so the result does not depend
//! on the number of threads.
//!
//! With P = softmax(q·kᵀ·scale) and dO the gradient of the result: dV = Pᵀ·dO, dP = dO·Vᵀ,
//! dS = scale · P ∘ (dP - rows of ΣP∘dP), dQ = dS·K, dK = dSᵀ·Q (FlashAttention, arXiv:2205.14135, appendix B.2).

mod reference; // what is meant
mod head; // one head, block by block of queries
mod workspace; // its working memory

use super::{AttentionShape, Qkv, Strides, View};
use crate::aligned::with_scratch;
use crate::level::Simd;
use crate::threads::{self, SharedPtr};
use crate::tile::rows_at_once;
use crate::vector::{self, Number, Product};
use head::Head;
use workspace::{MakeLayout, Workspace};

/// Queries of a block, a multiple of every level's panel.
const QUERIES: usize = 64;

/// Where the gradients go, each from its first number on.
#[derive(Debug)]
pub struct AttentionGradients<'a, T> {
    /// (b, h, l_q, d)
    pub q: (&'a mut [T], Strides),
    /// (b, h, l_k, d)
    pub k: (&'a mut [T], Strides),
    /// (b, h, l_k, d)
    pub v: (&'a mut [T], Strides),
}

/// The gradients of softmax(q·kᵀ·scale)·v from that of its result, `grad` (b, h, l_q, d). In bf16 the weights and their
/// gradients are rounded to bf16 before they meet q, k and dO; sums are f32.
///
/// # Panics
/// When a slice is shorter than its view or there are no keys.
pub fn attention_backward<T: Number>(
    shape: AttentionShape,
    qkv: &Qkv<'_, T>,
    scale: f32,
    grad: View<'_, T>,
    to: AttentionGradients<'_, T>,
) {
    run(Simd::active(), shape, qkv, scale, grad, to);
}

pub(super) fn run<T: Number>(
    simd: Simd,
    shape: AttentionShape,
    qkv: &Qkv<'_, T>,
    scale: f32,
    grad: View<'_, T>,
    to: AttentionGradients<'_, T>,
) {
    let AttentionShape { b, h, l_q, l_k, d } = shape;
    let (queries, keys) = ([b, h, l_q, d], [b, h, l_k, d]);
    for (name, view, axes) in
        [("q", qkv.q, queries), ("k", qkv.k, keys), ("v", qkv.v, keys), ("grad", grad, queries)]
    {
        assert!(view.data.len() >= view.strides.reach(axes), "{name} is too short for {shape:?}");
    }
    let AttentionGradients { q: dq, k: dk, v: dv } = to;
    for (name, (data, strides), axes) in
        [("dq", (&dq.0, dq.1), queries), ("dk", (&dk.0, dk.1), keys), ("dv", (&dv.0, dv.1), keys)]
    {
        assert!(data.len() >= strides.reach(axes), "{name} is too short for {shape:?}");
    }
    assert!(l_k > 0, "attention to no keys");
    if queries.contains(&0) {
        return;
    }
    let make = MakeLayout { shape, unit: T::Product::DEPTH, rows: rows_at_once(simd) };
    let layout = vector::run(simd, make);
    let to = [dq, dk, dv].map(|(data, strides)| (SharedPtr::new(data), strides));
    threads::parallel_for(b * h, |head| {
        let head = Head { shape, qkv, scale, grad, layout, at: (head / h, head % h), to };
        with_scratch::<u32, _>(layout.len(), |words| {
            let work = Workspace::new(layout, words);
            vector::run(simd, (&head, &work));
        });
    });
}

#[cfg(test)]
mod tests; // every level against the plain loops
