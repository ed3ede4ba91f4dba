//! Copies of the pixels that regions of outputs see, as the tiles of AMX read them: slice of channels by slice, so that a
//! tile starts at any pixel.

use super::Picture;
use crate::aligned::LINE;
use crate::amx::{TILE, WINDOW_ROWS};
use crate::norm::Normalization;
use crate::vector::{Number, Vectors};

/// Copied pixels on each side of the outputs.
const HALO: usize = 1;

/// Slices of a pixel's channels, each as wide as a tile.
pub(super) fn slices<T: Number>(c_in: usize) -> usize {
    (c_in * size_of::<T>()).div_ceil(LINE)
}

/// Outputs of a picture, and the pixels that they see.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    /// The first output, row and column.
    pub first: (usize, usize),
    /// Rows and columns of outputs.
    pub size: (usize, usize),
    /// Rows and columns of pixels: whole windows and what their taps see around them.
    pub seen: (usize, usize),
    /// Of the channels of a pixel.
    pub slices: usize,
}

impl Region {
    pub fn new(first: (usize, usize), size: (usize, usize), slices: usize) -> Self {
        let rows = size.0.next_multiple_of(WINDOW_ROWS) + 2 * HALO;
        let columns = size.1.next_multiple_of(TILE) + 2 * HALO;
        Self { first, size, seen: (rows, columns), slices }
    }

    /// Pixels that are copied.
    pub fn pixels(&self) -> usize {
        self.seen.0 * self.seen.1
    }

    /// Windows of its outputs.
    pub fn windows(&self) -> usize {
        self.size.0.div_ceil(WINDOW_ROWS) * self.size.1.div_ceil(TILE)
    }

    /// Bytes of the copy: (slices, rows, columns), each [`LINE`] bytes.
    pub fn bytes(&self) -> usize {
        self.slices * self.pixels() * LINE
    }
}

/// A copy that is made pixel by pixel.
pub(super) struct Copying<'a, T> {
    picture: Picture<'a, T>,
    channels: usize,
    region: Region,
    to: &'a mut [u8],
    /// Row and column of the pixel that is next.
    next: (usize, usize),
}

impl<'a, T: Number> Copying<'a, T> {
    /// A copy of what `region` sees of a picture of so many channels.
    ///
    /// # Panics
    /// When `to` has not the bytes of the region.
    pub fn new(picture: Picture<'a, T>, channels: usize, region: Region, to: &'a mut [u8]) -> Self {
        assert!(to.len() >= region.bytes(), "room for the pixels");
        assert!(region.slices == slices::<T>(channels), "slices of {channels} channels");
        Self { picture, channels, region, to, next: (0, 0) }
    }

    /// Whose pixels these are.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Copies the next `count` pixels, or as many as are left; normalised where the picture asks for that; zeros outside
    /// the picture and behind the last channel.
    #[inline(always)]
    pub fn advance<V: Vectors>(&mut self, v: V, count: usize) {
        let (rows, columns) = self.region.seen;
        for _ in 0..count {
            let (row, column) = self.next;
            if row == rows {
                break;
            }
            let y = (self.region.first.0 + row) as isize - HALO as isize;
            let x = (self.region.first.1 + column) as isize - HALO as isize;
            let pixel = self.picture.pixel(y, x, self.channels);
            let stride = self.region.pixels() * LINE;
            let start = (row * columns + column) * LINE;
            // SAFETY: the pixel has as many channels, and there is room for all slices of all pixels.
            unsafe {
                let to = self.to.as_mut_ptr().add(start);
                copy(v, pixel, self.channels, self.picture.norm, (to, stride));
            }
            self.next = if column + 1 < columns { (row, column + 1) } else { (row + 1, 0) };
        }
    }
}

/// Copies the channels of a pixel into lines `stride` bytes apart.
///
/// # Safety
/// The channels must be readable, and as many lines writable as they fill.
#[inline(always)]
unsafe fn copy<V: Vectors, T: Number>(
    v: V,
    pixel: Option<*const T>,
    channels: usize,
    norm: Option<&Normalization>,
    (to, stride): (*mut u8, usize),
) {
    const { assert!(size_of::<f32>() * TILE == LINE) };
    assert_eq!(V::LANES, TILE, "lanes of a level with tiles");
    let numbers = LINE / size_of::<T>();
    for (slice, first) in (0..channels).step_by(numbers).enumerate() {
        let left = channels - first;
        // SAFETY: the caller's promise; a vector of a level with tiles is a line.
        unsafe {
            let to = to.add(slice * stride);
            match (pixel, norm) {
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
