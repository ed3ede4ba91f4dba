//! Keys and values of some heads, packed for the two products: of Q·Kᵀ the keys are columns, of P·V they are the
//! sum's axis.

use super::bound::{longer, longest_squared};
use super::{AttentionShape, Qkv};
use crate::level::Simd;
use crate::panels::{Panels, Rows, pack_rows, pack_rows_as_columns};
use crate::threads::{self, SharedPtr};
use crate::vector::{self, Number, Product, Vectors, Work};

/// The unit of products of T.
pub(super) type Unit<T> = <<T as Number>::Product as Product>::Unit;

/// How one packed head lies in memory, in units.
#[derive(Clone, Copy)]
pub(super) struct HeadLayout {
    pub keys: Panels,
    pub key_depth: usize,
    pub values: Panels,
    pub value_depth: usize,
}

impl HeadLayout {
    pub fn new<T: Number>(simd: Simd, shape: AttentionShape) -> Self {
        let depth = T::Product::DEPTH;
        vector::run(simd, MakePanels(shape.l_k, shape.d)).with_depths(shape, depth)
    }

    fn with_depths(self, shape: AttentionShape, depth: usize) -> Self {
        let (key_depth, value_depth) = (shape.d.div_ceil(depth), shape.l_k.div_ceil(depth));
        Self { key_depth, value_depth, ..self }
    }

    /// Where the values start.
    pub fn values_start(self) -> usize {
        self.keys.len(self.key_depth)
    }

    /// What a head takes, to a whole cache line.
    pub fn len(self) -> usize {
        (self.values_start() + self.values.len(self.value_depth)).next_multiple_of(16)
    }
}

struct MakePanels(usize, usize);

impl Work for MakePanels {
    type Output = HeadLayout;

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) -> HeadLayout {
        let (keys, values) = (Panels::new(v, self.0), Panels::new(v, self.1));
        HeadLayout { keys, key_depth: 0, values, value_depth: 0 }
    }
}

/// Packs the heads `first`, `first + 1`, … of all batch elements' heads, as many as `to` holds. Returns |k|² of each head's
/// longest key.
pub(super) fn pack_heads<T: Number>(
    simd: Simd,
    shape: AttentionShape,
    qkv: &Qkv<'_, T>,
    first: usize,
    layout: HeadLayout,
    to: &mut [Unit<T>],
) -> Vec<f32> {
    let parts = layout.keys.count();
    let heads = to.len() / layout.len();
    let to = SharedPtr::new(to);
    let mut longest = vec![0.0; heads * parts];
    threads::parallel_chunks(&mut longest, 1, |task, longest| {
        let (head, part) = (task / parts, task % parts);
        let (b, h) = ((first + head) / shape.h, (first + head) % shape.h);
        // SAFETY: heads have disjoint places, and parts disjoint panels of keys and rows of values.
        let to = unsafe { to.at(head * layout.len()) };
        longest[0] = vector::run(simd, PackPart { shape, qkv, at: (b, h), part, layout, to });
    });
    let of_head = |head: usize| &longest[head * parts..(head + 1) * parts];
    (0..heads).map(|head| of_head(head).iter().copied().fold(0.0, longer)).collect()
}

/// Packs the keys of one panel, and the values that belong to them; |k|² of the longest of these keys.
struct PackPart<'a, T: Number> {
    shape: AttentionShape,
    qkv: &'a Qkv<'a, T>,
    at: (usize, usize),
    part: usize,
    layout: HeadLayout,
    to: *mut Unit<T>,
}

impl<T: Number> Work for PackPart<'_, T> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) -> f32 {
        let Self { shape, qkv, at: (b, h), part, layout, to } = self;
        let HeadLayout { keys, key_depth, values, value_depth } = layout;
        let (key, vectors) = (keys.column(part), keys.vectors(part));
        let count = (vectors * V::LANES).min(shape.l_k - key);
        let rows = |view: &super::View<'_, T>| {
            let strides = view.strides;
            let start = view.data[b * strides.b + h * strides.h + key * strides.l..].as_ptr();
            Rows { start, stride: strides.l, count, len: shape.d }
        };
        let depth = T::Product::DEPTH;
        // SAFETY: the views were checked against the shape; the layout has room for every panel.
        unsafe {
            let panel = to.add(keys.start(part, key_depth));
            pack_rows_as_columns::<V, T::Product>(v, &rows(&qkv.k), key_depth, vectors, panel);
            for i in 0..values.count() {
                let (column, vectors) = (values.column(i), values.vectors(i));
                let all = rows(&qkv.v);
                let some = Rows { start: all.start.add(column), len: all.len - column, ..all };
                let panel = to.add(layout.values_start() + values.start(i, value_depth));
                let panel = panel.add(key / depth * vectors * V::LANES);
                pack_rows::<V, T::Product>(&some, count.div_ceil(depth), vectors, panel);
            }
            longest_squared(v, &rows(&qkv.k))
        }
    }
}
