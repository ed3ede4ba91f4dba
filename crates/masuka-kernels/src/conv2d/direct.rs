//! Convolution by its definition: the pixels that a block of outputs sees are copied beside each other, tap by tap,
//! and multiplied with the weights. Copying costs a percent of the products.

use std::ops::Range;

use super::output::Output;
use super::weights::tap_depth;
use super::{PackedConv2d, Picture, Unit};
use crate::aligned::with_scratch;
use crate::panels::Panels;
use crate::threads;
use crate::tile::{Block, Tools, multiply, rows_at_once};
use crate::vector::{self, Number, Vectors, Work};

/// Bytes of a block of unfolded pixels: less than half of the second cache.
const BLOCK_BYTES: usize = 384 << 10;

/// Outputs of a block, at most; a multiple of every [`rows_at_once`].
const MOST_PIXELS: usize = 96;

/// A grid of outputs that one kernel makes.
#[derive(Clone, Copy)]
struct Grid {
    height: usize,
    width: usize,
    /// Rows and columns of the kernel.
    kernel: usize,
    /// Input pixels between neighbours of the grid.
    stride: usize,
    /// The input pixel of the first tap of the grid's first pixel.
    origin: (isize, isize),
    /// Output pixels between neighbours of the grid, its first output pixel, and the width of the output.
    out_step: usize,
    out_origin: (usize, usize),
    out_width: usize,
}

pub(super) fn forward<T: Number>(
    conv: &PackedConv2d<T>,
    picture: Picture<'_, T>,
    (height, width): (usize, usize),
    output: &Output<'_, T>,
) {
    let before = -(conv.geometry.padding_before as isize);
    let grid = Grid {
        height,
        width,
        kernel: conv.geometry.kernel,
        stride: conv.geometry.stride,
        origin: (before, before),
        out_step: 1,
        out_origin: (0, 0),
        out_width: width,
    };
    walk(conv, picture, &[grid], output);
}

pub(super) fn forward_upsampling<T: Number>(
    conv: &PackedConv2d<T>,
    picture: Picture<'_, T>,
    output: &Output<'_, T>,
) {
    let grids = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(y, x)| Grid {
        height: picture.height,
        width: picture.width,
        kernel: 2,
        stride: 1,
        origin: (y as isize - 1, x as isize - 1),
        out_step: 2,
        out_origin: (y, x),
        out_width: 2 * picture.width,
    });
    walk(conv, picture, &grids, output);
}

/// All grids, of which each has its own share of the weights.
fn walk<T: Number>(
    conv: &PackedConv2d<T>,
    picture: Picture<'_, T>,
    grids: &[Grid],
    output: &Output<'_, T>,
) {
    let depth = grids[0].kernel * grids[0].kernel * tap_depth::<T>(conv.geometry.c_in);
    let unit = rows_at_once(conv.simd);
    let pixels = BLOCK_BYTES / size_of::<Unit<T>>() / depth / unit * unit;
    let pixels = pixels.clamp(unit, MOST_PIXELS);
    let blocks = (grids[0].height * grids[0].width).div_ceil(pixels);
    let weights = conv.weights.len() / grids.len();
    threads::parallel_for(blocks * grids.len(), |task| {
        // All kernels over the same pixels, so that these are read once.
        let (block, grid) = (task / grids.len(), task % grids.len());
        let (first, panels) = (block * pixels, conv.panels);
        let grid_pixels = grids[grid].height * grids[grid].width;
        let count = pixels.min(grid_pixels - first);
        let rows = count.next_multiple_of(unit);
        let weights = &conv.weights[grid * weights..][..weights];
        let grid = grids[grid];
        with_scratch::<Unit<T>, _>(rows * depth, |seen| {
            with_scratch::<f32, _>(rows * panels.width(), |sums| {
                unfold(picture, conv.geometry.c_in, grid, first..first + count, seen);
                let block =
                    PixelBlock { grid, first, count, depth, weights, panels, output, seen, sums };
                vector::run(conv.simd, block);
            });
        });
    });
}

/// Outputs of one grid, counted row by row.
struct PixelBlock<'a, T: Number> {
    grid: Grid,
    first: usize,
    count: usize,
    /// Units that an output sees.
    depth: usize,
    weights: &'a [Unit<T>],
    panels: Panels,
    output: &'a Output<'a, T>,
    /// What the outputs see, (count rounded up to what is multiplied at once, depth).
    seen: &'a [Unit<T>],
    /// Room for one panel, (rows of `seen`, width of a panel).
    sums: &'a mut [f32],
}

impl<T: Number> Work for PixelBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let width = self.panels.width();
        let tools = Tools::new(v);
        for panel in 0..self.panels.count() {
            let block = Block::<T::Product> {
                a: self.seen.as_ptr(),
                a_stride: self.depth,
                rows: self.seen.len() / self.depth,
                depth: self.depth,
                b: self.weights[self.panels.start(panel, self.depth)..].as_ptr(),
                vectors: self.panels.vectors(panel),
                c: self.sums.as_mut_ptr(),
                c_stride: width,
                accumulate: false,
            };
            // SAFETY: the pixels were unfolded into these rows, the panel was packed with this depth, and the sums
            // have room for the widest panel.
            unsafe { multiply(v, &tools, &block) };
            self.write(v, panel);
        }
    }
}

impl<T: Number> PixelBlock<'_, T> {
    #[inline(always)]
    fn write<V: Vectors>(&self, v: V, panel: usize) {
        let width = self.panels.width();
        for i in 0..self.count {
            let pixel = self.first + i;
            let (y, x) = (pixel / self.grid.width, pixel % self.grid.width);
            let y = self.grid.out_origin.0 + y * self.grid.out_step;
            let x = self.grid.out_origin.1 + x * self.grid.out_step;
            for vector in 0..self.panels.vectors(panel) {
                let channel = self.panels.column(panel) + vector * V::LANES;
                if channel >= self.output.c_out {
                    break;
                }
                // SAFETY: blocks and grids have pixels of their own, and the channel exists.
                unsafe {
                    let sum = v.load(self.sums.as_ptr().add(i * width + vector * V::LANES));
                    self.output.finish(v, y * self.grid.out_width + x, channel, sum);
                }
            }
        }
    }
}

/// Copies what each of the outputs `pixels` sees, tap by tap; zeros outside the picture, behind odd channels and behind
/// the last output.
fn unfold<T: Number>(
    picture: Picture<'_, T>,
    c_in: usize,
    grid: Grid,
    pixels: Range<usize>,
    seen: &mut [Unit<T>],
) {
    let (taps, tap_depth) = (grid.kernel * grid.kernel, tap_depth::<T>(c_in));
    for (pixel, row) in (pixels.start..).zip(seen.chunks_exact_mut(taps * tap_depth)) {
        let (y, x) = (pixel / grid.width, pixel % grid.width);
        for (tap, to) in row.chunks_exact_mut(tap_depth).enumerate() {
            let (ky, kx) = (tap / grid.kernel, tap % grid.kernel);
            let y = grid.origin.0 + (y * grid.stride + ky) as isize;
            let x = grid.origin.1 + (x * grid.stride + kx) as isize;
            let from = if pixel < pixels.end { picture.pixel(y, x, c_in) } else { None };
            let Some(from) = from else {
                to.fill(Unit::<T>::default());
                continue;
            };
            if let Some(last) = to.last_mut() {
                *last = Unit::<T>::default();
            }
            // SAFETY: the pixel has c_in numbers, and its units hold at least as many.
            unsafe { to.as_mut_ptr().cast::<T>().copy_from_nonoverlapping(from, c_in) };
        }
    }
}
