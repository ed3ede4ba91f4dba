//! The working memory of a head. Rows are padded to what is multiplied at once, columns to whole vectors.

use crate::attention::AttentionShape;
use crate::attention::pack::Unit;
use crate::panels::Panels;
use crate::vector::{Number, Vectors, Work};

use super::QUERIES;

/// Parts of the working memory.
const PARTS: usize = 16;

/// Sizes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Keys, padded.
    pub keys: usize,
    /// Channels, padded.
    pub channels: usize,
    /// Units of a row of d numbers.
    pub depth: usize,
    /// Units along the keys.
    pub key_depth: usize,
    /// Units along a block of queries.
    pub query_depth: usize,
    /// A block of queries as columns.
    pub queries: Panels,
    /// The channels as columns.
    pub columns: Panels,
}

/// The layout of heads of a shape.
pub(super) struct MakeLayout {
    pub shape: AttentionShape,
    /// Numbers in a unit.
    pub unit: usize,
    /// Rows that are multiplied at once.
    pub rows: usize,
}

impl Work for MakeLayout {
    type Output = Layout;

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) -> Layout {
        let Self { shape: AttentionShape { l_k, d, .. }, unit, rows } = self;
        Layout {
            keys: l_k.next_multiple_of(rows),
            channels: d.next_multiple_of(rows),
            depth: d.div_ceil(unit),
            key_depth: l_k.div_ceil(unit),
            query_depth: QUERIES / unit,
            queries: Panels::new(v, QUERIES),
            columns: Panels::new(v, d),
        }
    }
}

impl Layout {
    /// Words of 32 bits of each part of the workspace, in the order of its fields.
    fn sizes(self) -> [usize; PARTS] {
        let Self { keys, channels, depth, key_depth, query_depth, queries, columns } = self;
        let wide = columns.columns();
        let sizes = [
            keys * depth,
            keys * depth,
            channels * key_depth,
            queries.len(depth),
            queries.len(depth),
            columns.len(query_depth),
            columns.len(query_depth),
            keys * QUERIES,
            keys * QUERIES,
            keys * query_depth,
            keys * query_depth,
            queries.len(key_depth),
            keys * wide,
            keys * wide,
            channels * QUERIES,
            QUERIES * wide,
        ];
        sizes.map(|words| words.next_multiple_of(16))
    }

    /// Words of all parts.
    pub fn len(self) -> usize {
        self.sizes().iter().sum()
    }
}

/// Working memory of a head.
pub(super) struct Workspace<T: Number> {
    /// (keys, depth)
    pub k: *mut Unit<T>,
    /// (keys, depth)
    pub v: *mut Unit<T>,
    /// (channels, key depth)
    pub k_turned: *mut Unit<T>,
    /// Queries as columns.
    pub q_columns: *mut Unit<T>,
    /// Gradients of the result as columns.
    pub grad_columns: *mut Unit<T>,
    /// Queries as rows, packed.
    pub q_rows: *mut Unit<T>,
    /// Gradients of the result as rows, packed.
    pub grad_rows: *mut Unit<T>,
    /// (keys, QUERIES)
    pub scores: *mut f32,
    /// Gradients of the weights, then of the scores, (keys, QUERIES).
    pub slopes: *mut f32,
    /// Weights, (keys, QUERIES).
    pub weights: *mut T,
    /// Gradients of the scores, (keys, QUERIES).
    pub slopes_rounded: *mut T,
    /// The same, packed.
    pub slopes_packed: *mut Unit<T>,
    /// (keys, columns)
    pub dk: *mut f32,
    /// (keys, columns)
    pub dv: *mut f32,
    /// (channels, QUERIES)
    pub dq_turned: *mut f32,
    /// (QUERIES, columns)
    pub dq: *mut f32,
}

impl<T: Number> Workspace<T> {
    /// Parts of `words`, which are as many as the layout says.
    pub fn new(layout: Layout, words: &mut [u32]) -> Self {
        let mut rest = words;
        let mut next = |words: usize| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(words);
            rest = others;
            part.as_mut_ptr()
        };
        let parts = layout.sizes().map(&mut next);
        Self {
            k: parts[0].cast(),
            v: parts[1].cast(),
            k_turned: parts[2].cast(),
            q_columns: parts[3].cast(),
            grad_columns: parts[4].cast(),
            q_rows: parts[5].cast(),
            grad_rows: parts[6].cast(),
            scores: parts[7].cast(),
            slopes: parts[8].cast(),
            weights: parts[9].cast(),
            slopes_rounded: parts[10].cast(),
            slopes_packed: parts[11].cast(),
            dk: parts[12].cast(),
            dv: parts[13].cast(),
            dq_turned: parts[14].cast(),
            dq: parts[15].cast(),
        }
    }
}
