//! Convolution by its definition in the tiles of AMX, for kernels of 3×3 that keep the size of the picture and twofold
//! upsampling. The pixels that a region of outputs sees are copied once, slice of channels by slice, so that a tile of them
//! starts at any pixel; the copy lies in the second cache, and what a window sees in the first. A norm and its activation are
//! applied to what is copied, and sums are written while the next products run.

use super::output::Output;
use super::{Method, PackedConv2d, Picture};
use crate::aligned::{LINE, with_scratch};
use crate::amx::{TILE, Tiles, WINDOW_ROWS, WINDOW_SUMS, WindowSlice};
use crate::level::Simd;
use crate::norm::Normalization;
use crate::threads;
use crate::vector::{self, Number, Vectors, Work};

/// Outputs of a region along each axis, at most. With 512 channels the copy takes 1.2 MB, and the pixels beyond the region
/// are an eighth of it.
const REGION: usize = 32;

/// Windows of channels that are computed one after another and written together: 32 bf16 are a line.
const PAIR: usize = 2;

/// Outputs of a row that are written at once, and how many such pieces a window has.
const PIECE: usize = 4;
const PIECES: usize = WINDOW_ROWS * TILE / PIECE;

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
            with_scratch::<f32, _>(2 * PAIR * WINDOW_SUMS, |sums| {
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
    /// Of two pairs of windows: one is computed while the other is written.
    sums: &'a mut [f32],
}

/// Where the sums of a pair of windows go.
#[derive(Clone, Copy)]
struct Place {
    pass: Pass,
    /// The first channel, and how many windows of channels.
    channel: usize,
    windows: usize,
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
        let c_out = region.output.c_out;
        let (mut now, mut before) = sums.split_at_mut(PAIR * WINDOW_SUMS);
        let mut written = None;
        let mut b = region.conv.weights.as_ptr().cast::<u8>();
        for pass in region.passes {
            for channel in (0..c_out).step_by(PAIR * TILE) {
                let windows = PAIR.min((c_out - channel).div_ceil(TILE));
                for y in (0..region.size.0).step_by(WINDOW_ROWS) {
                    for x in (0..region.size.1).step_by(TILE) {
                        let place = Place { pass: *pass, channel, windows, at: (y, x) };
                        // SAFETY: weights were packed in this order.
                        unsafe {
                            region.compute(v, &tiles, &place, (pixels, b, now), (written, before));
                        }
                        written = Some(place);
                        (now, before) = (before, now);
                    }
                }
                b = b.wrapping_add(windows * region.window_bytes());
            }
        }
        if let Some(place) = written {
            for piece in 0..PIECES {
                region.write(v, &place, piece, before);
            }
        }
    }
}

impl<T: Number> Region<'_, T> {
    /// Copies all pixels that are seen, normalised where that is asked; zeros outside the picture and behind the last
    /// channel.
    #[inline(always)]
    fn copy<V: Vectors>(&self, v: V, to: &mut [u8]) {
        const { assert!(size_of::<f32>() * TILE == LINE) };
        assert_eq!(V::LANES, TILE, "lanes of a level with tiles");
        let (slices, rows, columns) = self.seen;
        let channels = self.conv.geometry.c_in;
        let numbers = LINE / size_of::<T>();
        assert!(to.len() == slices * rows * columns * LINE, "room for the pixels");
        for row in 0..rows {
            let y = (self.first.0 + row) as isize - HALO as isize;
            for column in 0..columns {
                let x = (self.first.1 + column) as isize - HALO as isize;
                let pixel = self.picture.pixel(y, x, channels);
                for slice in 0..slices {
                    let place = ((slice * rows + row) * columns + column) * LINE;
                    let (first, left) = (slice * numbers, channels - slice * numbers);
                    // SAFETY: the pixel has these channels, and there is room for all slices of all pixels; a vector of a
                    // level with tiles is a line.
                    unsafe {
                        let to = to.as_mut_ptr().add(place);
                        match (pixel, self.picture.norm) {
                            (Some(pixel), Some(norm)) => {
                                normalize(v, norm, pixel.add(first), (first, left), to.cast());
                            }
                            (Some(pixel), None) if left >= numbers => {
                                v.store(to.cast(), v.load(pixel.add(first).cast()));
                            }
                            (Some(pixel), None) => {
                                v.store(to.cast(), v.splat(0.0));
                                to.cast::<T>().copy_from_nonoverlapping(pixel.add(first), left);
                            }
                            (None, _) => v.store(to.cast(), v.splat(0.0)),
                        }
                    }
                }
            }
        }
    }

    /// Bytes of the weights of a pass for one window of channels.
    #[inline(always)]
    fn window_bytes(&self) -> usize {
        self.kernel * self.kernel * self.seen.0 * TILE * LINE
    }

    /// Takes the products of a pair of windows, and writes the sums of the pair before while they run.
    ///
    /// # Safety
    /// `b` must hold the weights of the place's pass and channels.
    #[inline(always)]
    unsafe fn compute<V: Vectors>(
        &self,
        v: V,
        tiles: &Tiles,
        place: &Place,
        (pixels, b, sums): (&[u8], *const u8, &mut [f32]),
        (written, before): (Option<Place>, &[f32]),
    ) {
        let (slices, rows, columns) = self.seen;
        let (y, x) = (place.at.0 + place.pass.offset.0, place.at.1 + place.pass.offset.1);
        let first = pixels[(y * columns + x) * LINE..].as_ptr();
        let steps = place.windows * slices;
        let mut step = 0;
        for window in 0..place.windows {
            let c = sums[window * WINDOW_SUMS..][..WINDOW_SUMS].as_mut_ptr();
            tiles.begin_window();
            for slice in 0..slices {
                let b = b.wrapping_add(step * (self.window_bytes() / slices));
                let a = first.wrapping_add(slice * rows * columns * LINE);
                let products = WindowSlice { a, a_row: columns * LINE, b, c };
                // SAFETY: the caller's promise; whole windows and what their taps see around them were copied.
                unsafe { tiles.add_to_window(self.kernel, &products) };
                for piece in step * PIECES / steps..(step + 1) * PIECES / steps {
                    self.fetch_outputs(tiles, place, piece);
                    if let Some(written) = &written {
                        self.write(v, written, piece, before);
                    }
                }
                step += 1;
            }
            // SAFETY: room for a window was seen.
            unsafe { tiles.store_window(c) };
        }
    }

    /// The output pixels of a piece of a window that lie in the picture: the first, how far apart, and how many.
    #[inline(always)]
    fn outputs(&self, place: &Place, piece: usize) -> (usize, usize, usize) {
        let Place { pass, at, .. } = *place;
        let (row, column) = (at.0 + piece * PIECE / TILE, at.1 + piece * PIECE % TILE);
        let y = pass.out_origin.0 + pass.out_step * (self.first.0 + row);
        let x = pass.out_origin.1 + pass.out_step * (self.first.1 + column);
        let first = y * pass.out_step * self.picture.width + x;
        let count = if row < self.size.0 { self.size.1.saturating_sub(column) } else { 0 };
        (first, pass.out_step, count.min(PIECE))
    }

    /// Fetches the lines of a piece, which come from far: stores would wait for them.
    #[inline(always)]
    fn fetch_outputs(&self, tiles: &Tiles, place: &Place, piece: usize) {
        let (first, step, count) = self.outputs(place, piece);
        for i in 0..count {
            let at = (first + i * step) * self.output.c_out + place.channel;
            // SAFETY: the pixel and the channel exist.
            let out = unsafe { self.output.out.at(at) }.cast::<u8>();
            tiles.fetch_to_write(out);
            if !out.addr().is_multiple_of(LINE) {
                tiles.fetch_to_write(out.wrapping_add(LINE - 1));
            }
            if let Some(residual) = self.output.residual {
                tiles.fetch(residual[at..].as_ptr());
            }
        }
    }

    /// Writes what of a piece lies in the picture.
    #[inline(always)]
    fn write<V: Vectors>(&self, v: V, place: &Place, piece: usize, sums: &[f32]) {
        let (first, step, count) = self.outputs(place, piece);
        for i in 0..count {
            for window in 0..place.windows {
                let sums = &sums[window * WINDOW_SUMS + (piece * PIECE + i) * TILE..][..TILE];
                // SAFETY: regions and windows have outputs of their own, and the channel exists; a level with tiles has
                // vectors as wide as they.
                unsafe {
                    let sum = v.load(sums.as_ptr());
                    let channel = place.channel + window * TILE;
                    self.output.finish(v, first + i * step, channel, sum);
                }
            }
        }
    }
}

/// Writes a line of the channels from `first`, of which `left` are in the picture, normalised; zeros behind them.
///
/// # Safety
/// As many channels must be readable from `x`, and a line writable.
#[inline(always)]
unsafe fn normalize<V: Vectors, T: Number>(
    v: V,
    norm: &Normalization,
    x: *const T,
    (first, left): (usize, usize),
    to: *mut T,
) {
    let mut c = 0;
    while c < LINE / size_of::<T>() {
        // SAFETY: the caller's promise; nothing is read behind the last channel.
        unsafe {
            let x = T::load_up_to(v, x.wrapping_add(c), left.saturating_sub(c));
            T::store(v, to.add(c), norm.apply::<V, T>(v, x, first + c));
        }
        c += V::LANES;
    }
}
