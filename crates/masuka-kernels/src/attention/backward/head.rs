//! The gradients of one head. Keys are rows and queries columns of what is computed for a block of queries.

use std::f32::consts::LOG2_E;

use super::QUERIES;
use super::workspace::{Layout, Workspace};
use crate::attention::{AttentionShape, Qkv, Strides, View};
use crate::panels::{Panels, Rows, copy_rows, pack_rows, pack_rows_as_columns};
use crate::threads::SharedPtr;
use crate::tile::{Block, Tools, multiply};
use crate::vector::{Number, Product, Vectors, Work};

/// One head of one batch element.
pub(super) struct Head<'a, T: Number> {
    pub shape: AttentionShape,
    pub qkv: &'a Qkv<'a, T>,
    pub scale: f32,
    pub grad: View<'a, T>,
    pub layout: Layout,
    /// Batch element, head.
    pub at: (usize, usize),
    /// dq, dk, dv
    pub to: [(SharedPtr<T>, Strides); 3],
}

impl<T: Number> Work for (&Head<'_, T>, &Workspace<T>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (head, work) = self;
        let tools = Tools::new(v);
        let mut start = 0;
        // SAFETY: every part of the workspace has room for what the layout says, and the views were checked.
        unsafe {
            head.load_keys(work);
            while start < head.shape.l_q {
                let count = QUERIES.min(head.shape.l_q - start);
                head.load_queries(v, start, count, work);
                head.weigh(v, &tools, work);
                head.pass_to_keys(v, &tools, start > 0, work);
                head.pass_to_queries(v, &tools, (start, count), work);
                start += QUERIES;
            }
            let (l_k, wide) = (head.shape.l_k, head.layout.columns.columns());
            head.write_rows(v, (1, 0, l_k), work.dk, wide);
            head.write_rows(v, (2, 0, l_k), work.dv, wide);
        }
    }
}

impl<T: Number> Head<'_, T> {
    /// `count` rows of a view of this head from token `start` on.
    #[inline(always)]
    fn rows(&self, view: &View<'_, T>, start: usize, count: usize) -> Rows<T> {
        let ((b, h), Strides { b: by_b, h: by_h, l }) = (self.at, view.strides);
        let first = view.data[b * by_b + h * by_h + start * l..].as_ptr();
        Rows { start: first, stride: l, count, len: self.shape.d }
    }

    /// Lays down keys and values as left sides, and the keys turned.
    #[inline(always)]
    unsafe fn load_keys(&self, work: &Workspace<T>) {
        let Layout { keys, channels, depth, key_depth, .. } = self.layout;
        let (l_k, unit) = (self.shape.l_k, T::Product::DEPTH);
        let k = self.rows(&self.qkv.k, 0, l_k);
        // SAFETY: the caller's promise.
        unsafe {
            copy_rows::<T::Product>(&k, keys, depth, work.k);
            copy_rows::<T::Product>(&self.rows(&self.qkv.v, 0, l_k), keys, depth, work.v);
            let turned = work.k_turned.cast::<T>();
            let stride = key_depth * unit;
            for i in 0..channels * stride {
                *turned.add(i) = T::default();
            }
            for key in 0..l_k {
                let row = k.start.add(key * k.stride);
                for c in 0..k.len {
                    *turned.add(c * stride + key) = *row.add(c);
                }
            }
        }
    }

    /// Packs a block of queries and of the result's gradients both ways.
    #[inline(always)]
    unsafe fn load_queries<V: Vectors>(
        &self,
        v: V,
        start: usize,
        count: usize,
        work: &Workspace<T>,
    ) {
        let Layout { depth, query_depth, queries, columns, .. } = self.layout;
        for (view, as_columns, as_rows) in [
            (&self.qkv.q, work.q_columns, work.q_rows),
            (&self.grad, work.grad_columns, work.grad_rows),
        ] {
            let rows = self.rows(view, start, count);
            for i in 0..queries.count() {
                let first = queries.column(i);
                let held = count.saturating_sub(first);
                // SAFETY: rows beyond `held` are not read; the workspace has room for every panel.
                unsafe {
                    let start = rows.start.wrapping_add(first * rows.stride);
                    let rows = Rows { start, count: held, ..rows };
                    let to = as_columns.add(queries.start(i, depth));
                    let vectors = queries.vectors(i);
                    pack_rows_as_columns::<V, T::Product>(v, &rows, depth, vectors, to);
                }
            }
            for i in 0..columns.count() {
                let first = columns.column(i);
                // SAFETY: as above; the panel starts below d.
                unsafe {
                    let start = rows.start.add(first);
                    let rows = Rows { start, len: rows.len - first, ..rows };
                    let to = as_rows.add(columns.start(i, query_depth));
                    pack_rows::<V, T::Product>(&rows, query_depth, columns.vectors(i), to);
                }
            }
        }
    }

    /// Weights and gradients of the scores of a block of queries.
    #[inline(always)]
    unsafe fn weigh<V: Vectors>(&self, v: V, tools: &Tools, work: &Workspace<T>) {
        let Layout { keys, depth, queries, .. } = self.layout;
        // SAFETY: the caller's promise.
        unsafe {
            for (a, b, c) in
                [(work.k, work.q_columns, work.scores), (work.v, work.grad_columns, work.slopes)]
            {
                let left = Side { units: a, rows: keys, depth };
                product::<V, T::Product>(v, tools, &left, (b, queries), (c, QUERIES), false);
            }
            let mut column = 0;
            while column < QUERIES {
                self.softmax(v, column, work);
                column += V::LANES;
            }
        }
    }

    /// One vector of queries: the softmax down its columns and the gradient through it.
    #[inline(always)]
    unsafe fn softmax<V: Vectors>(&self, v: V, column: usize, work: &Workspace<T>) {
        let l_k = self.shape.l_k;
        let factor = v.splat(self.scale * LOG2_E);
        // SAFETY: the caller's promise; `column` is the first of a vector of each row.
        unsafe {
            let (scores, slopes) = (work.scores.add(column), work.slopes.add(column));
            let mut highest = v.splat(f32::NEG_INFINITY);
            for key in 0..l_k {
                highest = v.max(highest, v.mul(v.load(scores.add(key * QUERIES)), factor));
            }
            let (mut sum, mut along) = (v.splat(0.0), v.splat(0.0));
            for key in 0..l_k {
                let score = scores.add(key * QUERIES);
                let scaled = v.sub(v.mul(v.load(score), factor), highest);
                let weight = T::Product::exp2(v, scaled);
                sum = v.add(sum, weight);
                along = v.mul_add(weight, v.load(slopes.add(key * QUERIES)), along);
                v.store(score, weight);
            }
            let share = v.div(v.splat(1.0), sum);
            let (along, scale) = (v.mul(along, share), v.splat(self.scale));
            for key in 0..l_k {
                let at = key * QUERIES;
                let weight = v.mul(v.load(scores.add(at)), share);
                let slope = v.mul(v.sub(v.load(slopes.add(at)), along), v.mul(weight, scale));
                T::store(v, work.weights.add(at + column), weight);
                T::store(v, work.slopes_rounded.add(at + column), slope);
            }
            for key in l_k..self.layout.keys {
                let at = key * QUERIES + column;
                T::store(v, work.weights.add(at), v.splat(0.0));
                T::store(v, work.slopes_rounded.add(at), v.splat(0.0));
            }
        }
    }

    /// Adds the block's part of dK and dV.
    #[inline(always)]
    unsafe fn pass_to_keys<V: Vectors>(
        &self,
        v: V,
        tools: &Tools,
        accumulate: bool,
        work: &Workspace<T>,
    ) {
        let Layout { keys, query_depth, columns, .. } = self.layout;
        for (a, b, c) in
            [(work.weights, work.grad_rows, work.dv), (work.slopes_rounded, work.q_rows, work.dk)]
        {
            let left = Side { units: a.cast(), rows: keys, depth: query_depth };
            let to = (c, columns.columns());
            // SAFETY: the caller's promise.
            unsafe { product::<V, T::Product>(v, tools, &left, (b, columns), to, accumulate) };
        }
    }

    /// dQ of the block, computed turned.
    #[inline(always)]
    unsafe fn pass_to_queries<V: Vectors>(
        &self,
        v: V,
        tools: &Tools,
        (start, count): (usize, usize),
        work: &Workspace<T>,
    ) {
        let Layout { channels, key_depth, queries, columns, .. } = self.layout;
        let d = self.shape.d;
        // SAFETY: the caller's promise.
        unsafe {
            for i in 0..queries.count() {
                let first = queries.column(i);
                let slopes = Rows {
                    start: work.slopes_rounded.add(first).cast_const(),
                    stride: QUERIES,
                    count: self.shape.l_k,
                    len: QUERIES - first,
                };
                let to = work.slopes_packed.add(queries.start(i, key_depth));
                pack_rows::<V, T::Product>(&slopes, key_depth, queries.vectors(i), to);
            }
            let left = Side { units: work.k_turned, rows: channels, depth: key_depth };
            let (right, to) = ((work.slopes_packed, queries), (work.dq_turned, QUERIES));
            product::<V, T::Product>(v, tools, &left, right, to, false);
            let (wide, whole) = (columns.columns(), d / V::LANES * V::LANES);
            let mut query = 0;
            while query < count {
                let mut c = 0;
                while c < whole {
                    let from = work.dq_turned.add(c * QUERIES + query).cast();
                    v.transpose(from, QUERIES, work.dq.add(query * wide + c).cast(), wide);
                    c += V::LANES;
                }
                for c in whole..d {
                    for i in query..query + V::LANES {
                        *work.dq.add(i * wide + c) = *work.dq_turned.add(c * QUERIES + i);
                    }
                }
                query += V::LANES;
            }
            self.write_rows(v, (0, start, count), work.dq, wide);
        }
    }

    /// Rounds `count` rows to gradient `which`, from token `start` on.
    #[inline(always)]
    unsafe fn write_rows<V: Vectors>(
        &self,
        v: V,
        (which, start, count): (usize, usize, usize),
        from: *const f32,
        stride: usize,
    ) {
        let (to, strides) = &self.to[which];
        let ((b, h), d) = (self.at, self.shape.d);
        for row in 0..count {
            let offset = b * strides.b + h * strides.h + (start + row) * strides.l;
            let mut c = 0;
            while c < d {
                // SAFETY: the caller's promise; the gradient was checked against the shape, heads are disjoint.
                unsafe {
                    let x = f32::load_up_to(v, from.add(row * stride + c), d - c);
                    T::store_up_to(v, to.at(offset + c), x, d - c);
                }
                c += V::LANES;
            }
        }
    }
}

/// The left side of a product.
struct Side<U> {
    /// (rows, depth)
    units: *const U,
    rows: usize,
    depth: usize,
}

/// c (rows, columns of all panels) = or += left · panels
///
/// # Safety
/// All must lie in memory as said.
#[inline(always)]
unsafe fn product<V: Vectors, P: Product>(
    v: V,
    tools: &Tools,
    left: &Side<P::Unit>,
    (b, panels): (*mut P::Unit, Panels),
    (c, c_stride): (*mut f32, usize),
    accumulate: bool,
) {
    for i in 0..panels.count() {
        // SAFETY: the caller's promise.
        unsafe {
            let block = Block::<P> {
                a: left.units,
                a_stride: left.depth,
                rows: left.rows,
                depth: left.depth,
                b: b.add(panels.start(i, left.depth)),
                vectors: panels.vectors(i),
                c: c.add(panels.column(i)),
                c_stride,
                accumulate,
            };
            multiply(v, tools, &block);
        }
    }
}
