//! Convolution by its definition in the tiles of AMX, for kernels of 3×3 that keep the size of the picture and twofold
//! upsampling. The pixels that a region of outputs sees are copied once, slice of channels by slice, so that a tile of them
//! starts at any pixel; the copy lies in the second cache, and what a window sees in the first.

use super::output::Output;
use super::{Method, PackedConv2d, Picture};
use crate::aligned::{LINE, with_scratch};
use crate::amx::{TILE, Tiles, WINDOW_ROWS, WINDOW_SUMS, Window};
use crate::level::Simd;
use crate::threads;
use crate::vector::{self, Number, Vectors, Work};

/// Outputs of a region along each axis, at most. With 512 channels the copy takes 1.2 MB, and the pixels beyond the region
/// are an eighth of it.
const REGION: usize = 32;

/// Copied pixels on each side of the outputs.
const HALO: usize = 1;

/// Outputs that one kernel makes of the copied pixels.
#[derive(Clone, Copy)]
struct Pass {
    /// The copied pixel, row and column, that the first tap of the first output sees.
    offset: (usize, usize),
    /// Output pixels between neighbours, and the first one.
    out_step: usize,
    out_origin: (usize, usize),
}

/// Whether the level has tiles for such numbers.
pub(super) fn are_for<T: Number>(simd: Simd) -> bool {
    matches!(simd, Simd::Amx(_)) && size_of::<T>() == 2
}

/// Slices of a pixel's channels, each as wide as a tile.
pub(super) fn slices<T: Number>(c_in: usize) -> usize {
    (c_in * size_of::<T>()).div_ceil(LINE)
}

pub(super) fn forward<T: Number>(
    conv: &PackedConv2d<T>,
    picture: Picture<'_, T>,
    output: &Output<'_, T>,
) {
    let whole = [Pass { offset: (0, 0), out_step: 1, out_origin: (0, 0) }];
    let parities = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let doubled = parities.map(|at| Pass { offset: at, out_step: 2, out_origin: at });
    let (passes, kernel) = match conv.method {
        Method::UpsamplingWindows => (&doubled[..], 2),
        _ => (&whole[..], 3),
    };
    let (rows, columns) = (picture.height.div_ceil(REGION), picture.width.div_ceil(REGION));
    let slices = slices::<T>(conv.geometry.c_in);
    threads::parallel_for(rows * columns, |task| {
        let first = (task / columns * REGION, task % columns * REGION);
        let size = (REGION.min(picture.height - first.0), REGION.min(picture.width - first.1));
        let rows = size.0.next_multiple_of(WINDOW_ROWS) + 2 * HALO;
        let columns = size.1.next_multiple_of(TILE) + 2 * HALO;
        let seen = (slices, rows, columns);
        let region = Region { conv, picture, output, passes, kernel, first, size, seen };
        with_scratch::<u8, _>(slices * rows * columns * LINE, |pixels| {
            with_scratch::<f32, _>(2 * WINDOW_SUMS, |sums| {
                vector::run(conv.simd, (&region, Workspace { pixels, sums }));
            });
        });
    });
}

/// Outputs of the picture before it is doubled.
struct Region<'a, T: Number> {
    conv: &'a PackedConv2d<T>,
    picture: Picture<'a, T>,
    output: &'a Output<'a, T>,
    passes: &'a [Pass],
    /// Rows and columns of the kernel of a pass.
    kernel: usize,
    /// The first output, row and column.
    first: (usize, usize),
    /// Rows and columns of outputs.
    size: (usize, usize),
    /// What is copied: slices, rows, columns.
    seen: (usize, usize, usize),
}

/// Working memory of a region.
struct Workspace<'a> {
    /// (slices, rows, columns), each [`LINE`] bytes.
    pixels: &'a mut [u8],
    /// Of two windows.
    sums: &'a mut [f32],
}

/// Where the sums of a window go.
#[derive(Clone, Copy)]
struct Place {
    pass: Pass,
    channel: usize,
    /// Its first output, row and column within the region.
    at: (usize, usize),
}

impl<T: Number> Work for (&Region<'_, T>, Workspace<'_>) {
    type Output = ();

    #[inline(always)]
    fn run<V: Vectors>(self, v: V) {
        let (region, Workspace { pixels, sums }) = self;
        let Some(amx) = v.amx() else { unreachable!("weights were packed for tiles") };
        region.copy(v, pixels);
        let tiles = Tiles::new(amx);
        let blocks = region.output.c_out.div_ceil(TILE);
        let block_len = region.kernel * region.kernel * region.seen.0 * TILE * LINE;
        let mut b = region.conv.weights.as_ptr().cast::<u8>();
        let mut before = None;
        let mut turn = 0;
        for pass in region.passes {
            for block in 0..blocks {
                for y in (0..region.size.0).step_by(WINDOW_ROWS) {
                    for x in (0..region.size.1).step_by(TILE) {
                        let place = Place { pass: *pass, channel: block * TILE, at: (y, x) };
                        // SAFETY: weights were packed in this order, and there are sums of two windows.
                        unsafe {
                            let c = sums.as_mut_ptr().add(turn * WINDOW_SUMS);
                            region.fetch_outputs(&tiles, &place);
                            region.multiply(&tiles, &place, (pixels, b, c));
                            turn ^= 1;
                            // While these products run.
                            if let Some(before) = before.replace(place) {
                                region.write(v, &before, &sums[turn * WINDOW_SUMS..]);
                            }
                        }
                    }
                }
                b = b.wrapping_add(block_len);
            }
        }
        if let Some(before) = before {
            region.write(v, &before, &sums[(turn ^ 1) * WINDOW_SUMS..]);
        }
    }
}

impl<T: Number> Region<'_, T> {
    /// Copies all pixels that are seen; zeros outside the picture and behind the last channel.
    #[inline(always)]
    fn copy<V: Vectors>(&self, v: V, to: &mut [u8]) {
        const { assert!(size_of::<f32>() * TILE == LINE) };
        assert_eq!(V::LANES, TILE, "lanes of a level with tiles");
        let (slices, rows, columns) = self.seen;
        let bytes = self.conv.geometry.c_in * size_of::<T>();
        assert!(to.len() == slices * rows * columns * LINE, "room for the pixels");
        for row in 0..rows {
            let y = (self.first.0 + row) as isize - HALO as isize;
            for column in 0..columns {
                let x = (self.first.1 + column) as isize - HALO as isize;
                let pixel = self.picture.pixel(y, x, self.conv.geometry.c_in);
                for slice in 0..slices {
                    let place = ((slice * rows + row) * columns + column) * LINE;
                    let whole = (slice + 1) * LINE <= bytes;
                    // SAFETY: the pixel has `bytes` bytes, and there is room for all slices of all pixels; a vector of
                    // a level with tiles is a line.
                    unsafe {
                        let to = to.as_mut_ptr().add(place);
                        let from = pixel.map(|pixel| pixel.cast::<u8>().add(slice * LINE));
                        match from {
                            Some(from) if whole => v.store(to.cast(), v.load(from.cast())),
                            Some(from) => {
                                v.store(to.cast(), v.splat(0.0));
                                to.copy_from_nonoverlapping(from, bytes - slice * LINE);
                            }
                            None => v.store(to.cast(), v.splat(0.0)),
                        }
                    }
                }
            }
        }
    }

    /// Takes the products of one window.
    ///
    /// # Safety
    /// `b` must hold the weights of the place's pass and channels, and `c` have room for a window's sums.
    #[inline(always)]
    unsafe fn multiply(
        &self,
        tiles: &Tiles,
        place: &Place,
        (pixels, b, c): (&[u8], *const u8, *mut f32),
    ) {
        let (slices, rows, columns) = self.seen;
        let (y, x) = (place.at.0 + place.pass.offset.0, place.at.1 + place.pass.offset.1);
        let a = &pixels[(y * columns + x) * LINE..];
        let window = Window {
            a: a.as_ptr(),
            a_row: columns * LINE,
            a_slice: rows * columns * LINE,
            slices,
            b,
            c,
        };
        // SAFETY: the caller's promise; whole windows and what their taps see around them were copied.
        unsafe { tiles.multiply_window(self.kernel, &window) };
    }

    /// The output pixels of row `row` of a window that lie in the picture: the first, how far apart, and how many.
    #[inline(always)]
    fn outputs(&self, place: &Place, row: usize) -> (usize, usize, usize) {
        let Place { pass, at, .. } = *place;
        let y = pass.out_origin.0 + pass.out_step * (self.first.0 + at.0 + row);
        let x = pass.out_origin.1 + pass.out_step * (self.first.1 + at.1);
        let first = y * pass.out_step * self.picture.width + x;
        let is_inside = at.0 + row < self.size.0;
        (first, pass.out_step, if is_inside { TILE.min(self.size.1 - at.1) } else { 0 })
    }

    /// Lines that windows of other channels have not written yet come from far, and stores would wait for them.
    #[inline(always)]
    fn fetch_outputs(&self, tiles: &Tiles, place: &Place) {
        if !(place.channel * size_of::<T>()).is_multiple_of(LINE) {
            return;
        }
        for row in 0..WINDOW_ROWS {
            let (first, step, count) = self.outputs(place, row);
            for column in 0..count {
                let at = (first + column * step) * self.output.c_out + place.channel;
                // SAFETY: the pixel and the channel exist.
                tiles.fetch_to_write(unsafe { self.output.out.at(at) });
            }
        }
    }

    /// Writes what of a window lies in the picture.
    #[inline(always)]
    fn write<V: Vectors>(&self, v: V, place: &Place, sums: &[f32]) {
        let channel = place.channel;
        for row in 0..WINDOW_ROWS {
            let (first, step, count) = self.outputs(place, row);
            for column in 0..count {
                let pixel = first + column * step;
                // SAFETY: regions and windows have outputs of their own, and the channel exists; a level with tiles
                // has vectors as wide as they.
                unsafe {
                    let sum = v.load(sums.as_ptr().add((row * TILE + column) * TILE));
                    self.output.finish(v, pixel, channel, sum);
                }
            }
        }
    }
}
