//! Queries, keys and values: projected, normed and rotated stream by stream, joined, attended; and the way back.

use masuka_kernels::aligned::unwritten;
use masuka_kernels::attention::{
    AttentionGradients, AttentionShape, Qkv, Scoring, Strides, View, attention, attention_backward,
};
use masuka_kernels::rope::{HeadsShape, Rotation, Tokens, rotate, rotate_backward};
use masuka_kernels::{Number, Rows};

use super::super::RotaryTables;
use super::super::blocks::{QK_NORM_EPS, QkvProjection};
use crate::error::Result;
use crate::layers::{AdapterGradients, Hidden, Matrix, TrainedLinear, Trains};
use crate::ops::to_f32;

/// Cosines and sines of all tokens, (l, d_head / 2).
pub(super) struct Tables {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Tables {
    pub(super) fn new(pe: &RotaryTables) -> Result<Self> {
        Ok(Self { cos: to_f32(&pe.cos)?, sin: to_f32(&pe.sin)? })
    }
}

/// Heads of all streams, (b, l, h, d_head) in memory each; or their gradients.
pub(super) struct Heads<T> {
    pub(super) q: Vec<T>,
    pub(super) k: Vec<T>,
    pub(super) v: Vec<T>,
    shape: HeadsShape,
}

impl<T: Number> Heads<T> {
    /// Of any numbers, for kernels that write them all.
    pub(super) fn unwritten(shape: HeadsShape) -> Self {
        let HeadsShape { b, l, h, d } = shape;
        let numbers = || unwritten(b * l * h * d);
        Self { q: numbers(), k: numbers(), v: numbers(), shape }
    }

    fn attention_shape(&self) -> AttentionShape {
        let HeadsShape { b, l, h, d } = self.shape;
        AttentionShape { b, h, l_q: l, l_k: l, d }
    }

    fn strides(&self) -> Strides {
        let HeadsShape { l, h, d, .. } = self.shape;
        Strides::blhd(h, l, d)
    }

    fn qkv(&self) -> Qkv<'_, T> {
        let strides = self.strides();
        let view = |data| View { data, strides };
        Qkv { q: view(&self.q), k: view(&self.k), v: view(&self.v) }
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.shape.d as f64).sqrt()) as f32
    }

    /// Where merged heads lie in rows of `width` numbers.
    fn merged(&self, width: usize) -> Strides {
        Strides { b: self.shape.l * width, h: self.shape.d, l: width }
    }

    /// Attention with merged heads, to the first columns of rows of `width` numbers.
    pub(super) fn attend(&self, to: &mut [T], width: usize) {
        let scoring = Scoring { scale: self.scale(), bias: None, causal: false };
        let strides = self.merged(width);
        attention(self.attention_shape(), &self.qkv(), &scoring, to, strides);
    }

    /// The gradients from those of the merged heads, the first columns of rows of `width` numbers.
    pub(super) fn attend_backward(&self, grad: &[T], width: usize) -> Self {
        let mut gradients = Self::unwritten(self.shape);
        let (shape, strides) = (self.attention_shape(), self.strides());
        let grad = View { data: grad, strides: self.merged(width) };
        let Self { q, k, v, .. } = &mut gradients;
        let to = AttentionGradients { q: (q, strides), k: (k, strides), v: (v, strides) };
        attention_backward(shape, &self.qkv(), self.scale(), grad, to);
        gradients
    }
}

/// Which of the joined tokens are a stream's.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) count: usize,
}

impl Part {
    /// The part's rows of each batch element of `joined` (b, l, columns), one after another.
    pub(super) fn take<T: Number>(self, joined: &[T], l: usize, columns: usize) -> Matrix<T> {
        let mut numbers = Vec::with_capacity(joined.len() / l.max(1) * self.count);
        for tokens in joined.chunks_exact(l * columns) {
            let part = self.start * columns..(self.start + self.count) * columns;
            numbers.extend_from_slice(&tokens[part]);
        }
        Matrix { numbers, columns }
    }

    /// The opposite of [`take`](Self::take).
    pub(super) fn put<T: Number>(self, part: &Matrix<T>, joined: &mut [T], l: usize) {
        let columns = part.columns;
        let parts = part.numbers.chunks_exact(self.count * columns);
        for (tokens, part) in joined.chunks_exact_mut(l * columns).zip(parts) {
            tokens[self.start * columns..][..part.len()].copy_from_slice(part);
        }
    }
}

/// A stream's projections for the length of one pass.
pub(super) struct TrainedQkv<'a, T: Number> {
    linears: [TrainedLinear<'a, T>; 3],
    /// Of queries and keys, (d_head).
    norms: [Vec<f32>; 2],
}

/// What the gradients of a stream's projections need.
pub(super) struct QkvPass<T> {
    /// Queries and keys before their norms, (b · l, d).
    raw: [Matrix<T>; 2],
    hidden: [Hidden; 3],
}

impl QkvProjection {
    pub(super) fn trained<T: Trains>(&self) -> Result<TrainedQkv<'_, T>> {
        Ok(TrainedQkv {
            linears: [self.q.trained()?, self.k.trained()?, self.v.trained()?],
            norms: [
                to_f32(&self.norm_q.adapted_weight()?)?,
                to_f32(&self.norm_k.adapted_weight()?)?,
            ],
        })
    }
}

impl<T: Trains> TrainedQkv<'_, T> {
    /// Projects the rows of `normed`, the part `part` of all tokens, into `heads`.
    pub(super) fn forward(
        &self,
        normed: Rows<'_, T>,
        part: Part,
        tables: &Tables,
        heads: &mut Heads<T>,
    ) -> Result<QkvPass<T>> {
        let [q, k, v] = &self.linears;
        let (q, hidden_q) = q.forward(normed)?;
        let (k, hidden_k) = k.forward(normed)?;
        let (v, hidden_v) = v.forward(normed)?;
        let shape = heads.shape;
        for (raw, weight, to) in
            [(&q, &self.norms[0], &mut heads.q), (&k, &self.norms[1], &mut heads.k)]
        {
            let whole = joined_strides(shape);
            let data = &mut to[part.start * whole.0..];
            let mut to = Tokens { data, stride: whole.0, batch_stride: whole.1 };
            let raw = tokens_of(raw, part);
            rotate(part_shape(shape, part), &raw, &rotation(weight, tables, part, shape), &mut to);
        }
        part.put(&v, &mut heads.v, shape.l);
        Ok(QkvPass { raw: [q, k], hidden: [hidden_q, hidden_k, hidden_v] })
    }

    /// The gradients of `normed` through each of the three, from those of the heads.
    pub(super) fn backward(
        &self,
        (normed, pass): (Rows<'_, T>, &QkvPass<T>),
        part: Part,
        tables: &Tables,
        grads: &Heads<T>,
        to: &mut AdapterGradients,
    ) -> Result<[Matrix<f32>; 3]> {
        let shape = grads.shape;
        let [hidden_q, hidden_k, hidden_v] = &pass.hidden;
        let whole = joined_strides(shape);
        let turned_back = |i: usize, grad: &[T]| {
            let raw = &pass.raw[i];
            let mut dx = Matrix::unwritten(normed.rows(), raw.columns);
            let data = &grad[part.start * whole.0..];
            let grad = Tokens { data, stride: whole.0, batch_stride: whole.1 };
            let batch_stride = part.count * raw.columns;
            let mut out = Tokens { data: &mut *dx.numbers, stride: raw.columns, batch_stride };
            let rotation = rotation(&self.norms[i], tables, part, shape);
            let shape = part_shape(shape, part);
            rotate_backward(shape, &tokens_of(raw, part), &rotation, &grad, &mut out);
            dx
        };
        let (dq, dk) = (turned_back(0, &grads.q), turned_back(1, &grads.k));
        let dv = part.take(&grads.v, shape.l, shape.h * shape.d);
        let [q, k, v] = &self.linears;
        Ok([
            q.backward((normed, hidden_q), dq.rows(), to)?,
            k.backward((normed, hidden_k), dk.rows(), to)?,
            v.backward((normed, hidden_v), dv.rows(), to)?,
        ])
    }
}

/// From token to token and from batch element to batch element.
fn joined_strides(HeadsShape { l, h, d, .. }: HeadsShape) -> (usize, usize) {
    (h * d, l * h * d)
}

fn part_shape(shape: HeadsShape, part: Part) -> HeadsShape {
    HeadsShape { l: part.count, ..shape }
}

fn tokens_of<T>(rows: &Matrix<T>, part: Part) -> Tokens<&[T]> {
    let columns = rows.columns;
    Tokens { data: &rows.numbers, stride: columns, batch_stride: part.count * columns }
}

fn rotation<'a>(
    weight: &'a [f32],
    tables: &'a Tables,
    part: Part,
    shape: HeadsShape,
) -> Rotation<'a> {
    let from = part.start * shape.d / 2;
    let norm = Some((weight, QK_NORM_EPS as f32));
    Rotation { norm, cos: &tables.cos[from..], sin: &tables.sin[from..] }
}
