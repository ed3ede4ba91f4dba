//! 3×3 convolution by Winograd's F(2×2, 3×3) (arXiv:1509.09308): 16 products in place of 36 for four outputs.
//!
//! Axis key: a tile is four outputs and the 4×4 inputs that they see; transformed tiles are (16, tiles, c_in) and
//! their products (16, tiles, columns of a panel). Transforms are sums and differences, taken in f32; in bf16 the
//! transformed input is rounded once more than by the definition.

use super::output::Output;
use super::weights::{POSITIONS, tap_depth};
use super::{PackedConv2d, Picture, Unit};
use crate::aligned::with_scratch;
use crate::threads;
use crate::tile::{Block, Tools, multiply, rows_at_once};
use crate::vector::{self, Number, Vectors, Work};

/// Bytes of a block of transformed tiles: with their products, about the second cache.
const BLOCK_BYTES: usize = 768 << 10;

/// Tiles of a block, at most; a multiple of every [`rows_at_once`]: beyond, the weights are read seldom enough.
const MOST_TILES: usize = 96;

pub(super) fn forward<T: Number>(
    conv: &PackedConv2d<T>,
    picture: Picture<'_, T>,
    output: &Output<'_, T>,
) {
    let depth = tap_depth::<T>(conv.geometry.c_in);
    let unit = rows_at_once(conv.simd);
    let tiles = BLOCK_BYTES / size_of::<Unit<T>>() / (POSITIONS * depth) / unit * unit;
    let tiles = tiles.clamp(unit, MOST_TILES);
    let columns = picture.width.div_ceil(2);
    let all = picture.height.div_ceil(2) * columns;
    threads::parallel_for(all.div_ceil(tiles), |task| {
        let first = task * tiles;
        let count = tiles.min(all - first);
        let rows = count.next_multiple_of(unit);
        let block = TileBlock { conv, picture, columns, first, count, output };
        let c_in = conv.geometry.c_in;
        with_scratch::<Unit<T>, _>(POSITIONS * rows * depth, |tiles| {
            with_scratch::<f32, _>(POSITIONS * rows * conv.panels.width(), |products| {
                with_scratch::<T, _>(c_in, |zeros| {
                    zeros.fill(T::default());
                    vector::run(conv.simd, (&block, Workspace { rows, tiles, products, zeros }));
                });
            });
        });
    });
}

/// Tiles counted row by row.
struct TileBlock<'a, T: Number> {
    conv: &'a PackedConv2d<T>,
    picture: Picture<'a, T>,
    /// Tiles in a row of the picture.
    columns: usize,
    first: usize,
    count: usize,
    output: &'a Output<'a, T>,
}

/// Working memory of a block.
struct Workspace<'a, T: Number> {
    /// Tiles, rounded up to what is multiplied at once.
    rows: usize,
    /// (16, rows, c_in)
    tiles: &'a mut [Unit<T>],
    /// (16, rows, width of a panel)
    products: &'a mut [f32],
    /// The channels of a pixel outside the picture, (c_in).
    zeros: &'a [T],
}

impl<T: Number> Work for (&TileBlock<'_, T>, Workspace<'_, T>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (block, Workspace { rows, tiles, products, zeros }) = self;
        let (panels, weights) = (block.conv.panels, &block.conv.weights);
        let depth = tap_depth::<T>(block.conv.geometry.c_in);
        let width = panels.width();
        block.transform(v, rows, zeros, tiles);
        let tools = Tools::new(v);
        for panel in 0..panels.count() {
            let vectors = panels.vectors(panel);
            for position in 0..POSITIONS {
                let start = panels.start(panel, POSITIONS * depth);
                let start = start + position * depth * vectors * V::LANES;
                let product = Block::<T::Product> {
                    a: tiles[position * rows * depth..].as_ptr(),
                    a_stride: depth,
                    rows,
                    depth,
                    b: weights[start..].as_ptr(),
                    vectors,
                    c: products[position * rows * width..].as_mut_ptr(),
                    c_stride: width,
                    accumulate: false,
                };
                // SAFETY: tiles, weights and products have these sizes.
                unsafe { multiply(v, &tools, &product) };
            }
            for vector in 0..vectors {
                let channel = panels.column(panel) + vector * V::LANES;
                if channel >= block.output.c_out {
                    break;
                }
                let products = &products[vector * V::LANES..];
                block.write(v, (rows * width, width), products, channel);
            }
        }
    }
}

impl<T: Number> TileBlock<'_, T> {
    /// Row and column of tile `i`, in tiles.
    #[inline(always)]
    fn place(&self, i: usize) -> (usize, usize) {
        ((self.first + i) / self.columns, (self.first + i) % self.columns)
    }

    /// Bᵀ·d·B of every tile's input d; zeros in rows behind the last tile.
    #[inline(always)]
    fn transform<V: Vectors>(&self, v: V, rows: usize, zeros: &[T], to: &mut [Unit<T>]) {
        let c_in = zeros.len();
        let to = to.as_mut_ptr().cast::<T>();
        for i in 0..rows {
            let mut seen = [zeros.as_ptr(); POSITIONS];
            if i < self.count {
                let (y, x) = self.place(i);
                for (position, seen) in seen.iter_mut().enumerate() {
                    let y = (2 * y + position / 4) as isize - 1;
                    let x = (2 * x + position % 4) as isize - 1;
                    *seen = self.picture.pixel(y, x, c_in).unwrap_or(zeros.as_ptr());
                }
            }
            let mut c = 0;
            while c < c_in {
                // SAFETY: every pixel has c_in numbers; row i of each position has as many, c_in being whole units.
                unsafe { transform_input(v, &seen, c, to.add(i * c_in), (rows * c_in, c_in)) };
                c += V::LANES;
            }
        }
    }

    /// Aᵀ·m·A of every tile's products m, finished and written.
    #[inline(always)]
    fn write<V: Vectors>(
        &self,
        v: V,
        (position_stride, row_stride): (usize, usize),
        products: &[f32],
        channel: usize,
    ) {
        let Picture { height, width, .. } = self.picture;
        for i in 0..self.count {
            let (tile_y, tile_x) = self.place(i);
            // SAFETY: row i of each position holds the products of the channel's vector.
            let outputs = unsafe {
                transform_output(v, products.as_ptr().add(i * row_stride), position_stride)
            };
            for (j, sum) in outputs.into_iter().enumerate() {
                let (y, x) = (2 * tile_y + j / 2, 2 * tile_x + j % 2);
                if y < height && x < width {
                    // SAFETY: tiles have pixels of their own, and the channel exists.
                    unsafe { self.output.finish(v, y * width + x, channel, sum) };
                }
            }
        }
    }
}

/// Writes Bᵀ·d·B for the channels from `c`; positions of the result lie `position_stride` numbers apart.
#[inline(always)]
unsafe fn transform_input<V: Vectors, T: Number>(
    v: V,
    seen: &[*const T; POSITIONS],
    c: usize,
    to: *mut T,
    (position_stride, c_in): (usize, usize),
) {
    let mut d = [v.splat(0.0); POSITIONS];
    // SAFETY: the caller's promise.
    unsafe {
        for (d, seen) in d.iter_mut().zip(seen) {
            *d = T::load_up_to(v, seen.add(c), c_in - c);
        }
        for x in 0..4 {
            [d[x], d[4 + x], d[8 + x], d[12 + x]] =
                differences(v, [d[x], d[4 + x], d[8 + x], d[12 + x]]);
        }
        for y in 0..4 {
            let y = 4 * y;
            [d[y], d[y + 1], d[y + 2], d[y + 3]] =
                differences(v, [d[y], d[y + 1], d[y + 2], d[y + 3]]);
        }
        for (i, d) in d.into_iter().enumerate() {
            T::store_up_to(v, to.add(i * position_stride + c), d, c_in - c);
        }
    }
}

/// Bᵀ · d
#[inline(always)]
fn differences<V: Vectors>(v: V, [a, b, c, d]: [V::F32; 4]) -> [V::F32; 4] {
    [v.sub(a, c), v.add(b, c), v.sub(c, b), v.sub(b, d)]
}

/// Aᵀ·m·A: two by two outputs, row by row.
#[inline(always)]
unsafe fn transform_output<V: Vectors>(v: V, m: *const f32, stride: usize) -> [V::F32; 4] {
    let zero = v.splat(0.0);
    let (mut upper, mut lower) = ([zero; 4], [zero; 4]);
    // SAFETY: the caller's promise.
    unsafe {
        for x in 0..4 {
            let [a, b, c, d] = [0, 4, 8, 12];
            let (b, c) = (v.load(m.add((b + x) * stride)), v.load(m.add((c + x) * stride)));
            upper[x] = v.add(v.load(m.add((a + x) * stride)), v.add(b, c));
            lower[x] = v.sub(v.sub(b, c), v.load(m.add((d + x) * stride)));
        }
    }
    let ([a, b], [c, d]) = (across(v, upper), across(v, lower));
    [a, b, c, d]
}

/// m · A for one row.
#[inline(always)]
fn across<V: Vectors>(v: V, [a, b, c, d]: [V::F32; 4]) -> [V::F32; 2] {
    [v.add(a, v.add(b, c)), v.sub(v.sub(b, c), d)]
}
