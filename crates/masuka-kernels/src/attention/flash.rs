//! Blocks of queries walk over blocks of keys: scores, weights and sums of a block stay in the second cache. A task
//! is a block of queries of one head, so the result does not depend on the number of threads.

use std::f32::consts::LOG2_E;

use super::bound::{MOST, longest_squared};
use super::pack::{HeadLayout, Unit, pack_heads};
use super::softmax::{Row, Running, weigh};
use super::{AttentionShape, Qkv, Scoring, Strides};
use crate::aligned::with_scratch;
use crate::level::Simd;
use crate::panels::{Rows, copy_rows};
use crate::threads::{self, SharedPtr};
use crate::tile::{Block, Tools, multiply, rows_at_once};
use crate::vector::{self, Number, Product, Vectors, Work};

/// Queries of a block, a multiple of every [`rows_at_once`]: their scores (198 KiB) and sums (48 KiB at d = 128) fit the
/// second cache beside a block of keys and values (256 KiB in bf16).
const QUERIES: usize = 96;

/// Keys of a block, a multiple of every level's panel.
const KEYS: usize = 512;

/// Numbers from row to row of the scores: a line more than they take, so that rows do not meet in the first cache.
const SCORES: usize = KEYS + 16;

/// Heads that are packed at once, for each thread: enough tasks between two barriers, little enough for the third cache.
const HEADS_PER_THREAD: usize = 2;

pub(super) fn attention<T: Number>(
    simd: Simd,
    shape: AttentionShape,
    qkv: &Qkv<'_, T>,
    scoring: &Scoring<'_>,
    (out, out_strides): (&mut [T], Strides),
) {
    let layout = HeadLayout::new::<T>(simd, shape);
    let heads = shape.b * shape.h;
    let group = (HEADS_PER_THREAD * threads::count()).min(heads);
    let blocks = shape.l_q.div_ceil(QUERIES);
    let out = SharedPtr::new(out);
    with_scratch::<Unit<T>, _>(group * layout.len(), |packed| {
        for first in (0..heads).step_by(group) {
            let count = group.min(heads - first);
            let packed = &mut packed[..count * layout.len()];
            let longest_keys = pack_heads(simd, shape, qkv, first, layout, packed);
            threads::parallel_for(count * blocks, |task| {
                let (i, start) = (task / blocks, task % blocks * QUERIES);
                let (b, h) = ((first + i) / shape.h, (first + i) % shape.h);
                let packed = packed[i * layout.len()..].as_ptr();
                let out_start = b * out_strides.b + h * out_strides.h + start * out_strides.l;
                // SAFETY: the result was checked against the shape; tasks write disjoint rows.
                let out = unsafe { out.at(out_start) };
                let block = QueryBlock {
                    shape,
                    qkv,
                    scoring,
                    layout,
                    rows_at_once: rows_at_once(simd),
                    at: (b, h, start),
                    packed,
                    longest_key: longest_keys[i].sqrt(),
                    out: (out, out_strides.l),
                };
                Workspace::with(layout, |workspace| vector::run(simd, (&block, workspace)));
            });
        }
    });
}

/// Up to [`QUERIES`] queries of one head.
struct QueryBlock<'a, T: Number> {
    shape: AttentionShape,
    qkv: &'a Qkv<'a, T>,
    scoring: &'a Scoring<'a>,
    layout: HeadLayout,
    rows_at_once: usize,
    /// Batch element, head, first query.
    at: (usize, usize, usize),
    packed: *const Unit<T>,
    /// Of the head, its length.
    longest_key: f32,
    /// The first query's row of the result and the distance to the next.
    out: (*mut T, usize),
}

/// Working memory of a block, all in words of 32 bits.
struct Workspace<T: Number> {
    /// (queries, key depth)
    queries: *mut Unit<T>,
    /// (queries, SCORES); the weights take the place of the scores, as numbers of T.
    scores: *mut f32,
    /// (queries, columns)
    sums: *mut f32,
}

impl<T: Number> Workspace<T> {
    /// Lends `task` the working memory of one block. It is taken before the level is entered: a closure is compiled
    /// for no level.
    fn with(layout: HeadLayout, task: impl FnOnce(&Self)) {
        let columns = layout.values.columns();
        let sizes = [layout.key_depth, SCORES, columns];
        let sizes = sizes.map(|words| (QUERIES * words).next_multiple_of(16));
        with_scratch::<u32, _>(sizes.iter().sum(), |words| {
            let (queries, rest) = words.split_at_mut(sizes[0]);
            let (scores, sums) = rest.split_at_mut(sizes[1]);
            task(&Self {
                queries: queries.as_mut_ptr().cast(),
                scores: scores.as_mut_ptr().cast(),
                sums: sums.as_mut_ptr().cast(),
            });
        });
    }
}

impl<T: Number> Work for (&QueryBlock<'_, T>, &Workspace<T>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        // SAFETY: every part of the workspace has room for its block, and any bits are numbers.
        unsafe { self.0.attend(v, self.1) };
    }
}

impl<T: Number> QueryBlock<'_, T> {
    #[inline(always)]
    unsafe fn attend<V: Vectors>(&self, v: V, work: &Workspace<T>) {
        let (_, _, start) = self.at;
        let count = QUERIES.min(self.shape.l_q - start);
        let seen_by_last = self.seen(count - 1);
        let mut running = [Running::START; QUERIES];
        let tools = Tools::new(v);
        for (i, running) in running.iter_mut().enumerate().take(count) {
            if let Some(bound) = self.bound(v, i) {
                *running = Running::below(bound);
            }
        }
        // SAFETY: the caller's promise: the workspace has room for QUERIES rows.
        unsafe {
            self.load_queries(count, work);
            let mut key = 0;
            while key < seen_by_last {
                let keys = KEYS.min(seen_by_last - key);
                self.score(v, &tools, (key, keys), count, work);
                for (i, running) in running.iter_mut().enumerate().take(count) {
                    let rescale = weigh(v, &self.row(i, (key, keys), work), running);
                    if rescale != 1.0 && key > 0 {
                        self.rescale(v, i, rescale, work);
                    }
                }
                self.mix(v, &tools, (key, keys), count, work);
                key += KEYS;
            }
            self.write(v, &running[..count], work);
        }
    }

    /// Keys that query `i` of the block sees.
    #[inline(always)]
    fn seen(&self, i: usize) -> usize {
        let AttentionShape { l_q, l_k, .. } = self.shape;
        if self.scoring.causal { self.at.2 + i + l_k - l_q + 1 } else { l_k }
    }

    /// What no score of query `i` of the block exceeds, in powers of two, if that is low enough to be of use.
    #[inline(always)]
    fn bound<V: Vectors>(&self, v: V, i: usize) -> Option<f32> {
        let ((b, h, start), strides) = (self.at, self.qkv.q.strides);
        let from = b * strides.b + h * strides.h + (start + i) * strides.l;
        let query = &self.qkv.q.data[from..from + self.shape.d];
        let row = Rows { start: query.as_ptr(), stride: strides.l, count: 1, len: query.len() };
        // SAFETY: the row is a slice.
        let length = unsafe { longest_squared(v, &row) }.sqrt();
        let bound = self.scoring.scale.abs() * LOG2_E * length * self.longest_key;
        (self.scoring.bias.is_none() && bound <= MOST).then_some(bound)
    }

    /// Copies the queries, and zeros behind them to the end of their rows.
    #[inline(always)]
    unsafe fn load_queries(&self, count: usize, work: &Workspace<T>) {
        let ((b, h, start), strides) = (self.at, self.qkv.q.strides);
        let first = self.qkv.q.data[b * strides.b + h * strides.h + start * strides.l..].as_ptr();
        let rows = Rows { start: first, stride: strides.l, count, len: self.shape.d };
        let padded = count.next_multiple_of(self.rows_at_once);
        // SAFETY: the view was checked against the shape; the workspace has room for QUERIES rows.
        unsafe {
            copy_rows::<T::Product>(&rows, padded, self.layout.key_depth, work.queries);
        }
    }

    /// Scores of the block: Q · Kᵀ.
    #[inline(always)]
    unsafe fn score<V: Vectors>(
        &self,
        v: V,
        tools: &Tools,
        (key, keys): (usize, usize),
        count: usize,
        work: &Workspace<T>,
    ) {
        let HeadLayout { keys: panels, key_depth, .. } = self.layout;
        let width = V::PANEL * V::LANES;
        for i in key / width..(key + keys).div_ceil(width) {
            // SAFETY: panel `i` was packed, and its columns lie in the block.
            unsafe {
                let block = Block::<T::Product> {
                    a: work.queries,
                    a_stride: key_depth,
                    rows: count.next_multiple_of(self.rows_at_once),
                    depth: key_depth,
                    b: self.packed.add(panels.start(i, key_depth)),
                    vectors: panels.vectors(i),
                    c: work.scores.add(panels.column(i) - key),
                    c_stride: SCORES,
                    accumulate: false,
                };
                multiply(v, tools, &block);
            }
        }
    }

    #[inline(always)]
    unsafe fn row(&self, i: usize, (key, keys): (usize, usize), work: &Workspace<T>) -> Row<T> {
        let (_, h, start) = self.at;
        let bias = self.scoring.bias.map_or(std::ptr::null(), |bias| {
            bias.data[h * bias.h_stride + (start + i) * bias.q_stride + key..].as_ptr()
        });
        // SAFETY: row `i` is one of the block.
        let scores = unsafe { work.scores.add(i * SCORES) };
        let seen = self.seen(i).saturating_sub(key).min(keys);
        Row { scores, seen, keys, scale: self.scoring.scale, bias, weights: scores.cast() }
    }

    #[inline(always)]
    unsafe fn rescale<V: Vectors>(&self, v: V, i: usize, factor: f32, work: &Workspace<T>) {
        let columns = self.layout.values.columns();
        let factor = v.splat(factor);
        let mut c = 0;
        while c < columns {
            // SAFETY: row `i` has `columns` sums, a multiple of LANES.
            unsafe {
                let at = work.sums.add(i * columns + c);
                v.store(at, v.mul(v.load(at), factor));
            }
            c += V::LANES;
        }
    }

    /// Adds the values, weighted: P · V.
    #[inline(always)]
    unsafe fn mix<V: Vectors>(
        &self,
        v: V,
        tools: &Tools,
        (key, keys): (usize, usize),
        count: usize,
        work: &Workspace<T>,
    ) {
        let HeadLayout { values, value_depth, .. } = self.layout;
        let depth = T::Product::DEPTH;
        for i in 0..values.count() {
            let start = self.layout.values_start() + values.start(i, value_depth);
            // SAFETY: panel `i` was packed for all keys; the block's sums have room for its columns.
            unsafe {
                let block = Block::<T::Product> {
                    a: work.scores.cast(),
                    a_stride: SCORES,
                    rows: count.next_multiple_of(self.rows_at_once),
                    depth: keys.div_ceil(depth),
                    b: self.packed.add(start + key / depth * values.vectors(i) * V::LANES),
                    vectors: values.vectors(i),
                    c: work.sums.add(values.column(i)),
                    c_stride: values.columns(),
                    accumulate: key > 0,
                };
                multiply(v, tools, &block);
            }
        }
    }

    /// Divides by the sum of the weights and rounds.
    #[inline(always)]
    unsafe fn write<V: Vectors>(&self, v: V, running: &[Running], work: &Workspace<T>) {
        let columns = self.layout.values.columns();
        let d = self.shape.d;
        for (i, running) in running.iter().enumerate() {
            let factor = v.splat(if running.sum == 0.0 { 0.0 } else { 1.0 / running.sum });
            let mut c = 0;
            while c < d {
                // SAFETY: row `i` has `columns` ≥ c + LANES sums, and its place in the result d numbers.
                unsafe {
                    let y = v.mul(v.load(work.sums.add(i * columns + c)), factor);
                    let to = self.out.0.add(i * self.out.1 + c);
                    if c + V::LANES <= d {
                        T::store(v, to, y);
                    } else {
                        T::store_first(v, to, y, d - c);
                    }
                }
                c += V::LANES;
            }
        }
    }
}
