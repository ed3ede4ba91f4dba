//! Large pictures in bands of rows. What a band needs of the rest of the picture is computed, never guessed: rows
//! around it (a halo), and the moments of every norm, gathered over all bands first. So the result is that of
//! the whole picture; the price is time, because what lies between two norms is computed once for the moments and
//! once more for the result.

use std::ops::Range;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::layers::Conv2d;
use crate::observer::{self, StepObserver};
use crate::ops::{self, GroupMoments};

/// Fewer rows than this would be mostly halo.
const MIN_ROWS: usize = 4;

/// Tensors of a band's size that exist at once inside a block, halos and copies of the convolution included.
const TENSORS_PER_BAND: usize = 10;

/// How much of a picture passes a block at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tiling {
    /// All of it.
    #[default]
    Whole,
    /// Bands of rows, for the same result in less memory and more time.
    Bands {
        /// What a band may take, all in all; a block that takes no more as a whole is left whole.
        band_bytes: usize,
    },
}

impl Tiling {
    /// Bands of the usual size.
    pub const BANDS: Self = Self::Bands { band_bytes: 256 << 20 };

    /// The rows of a band of a picture with rows of `row_bytes`, if it does not pass at once.
    pub(super) fn rows(self, height: usize, row_bytes: usize) -> Option<usize> {
        let Self::Bands { band_bytes } = self else { return None };
        let rows = (band_bytes / (TENSORS_PER_BAND * row_bytes)).max(MIN_ROWS);
        (rows < height).then_some(rows)
    }

    /// What such a band takes, if the picture does not pass at once.
    pub(super) fn band_bytes(self, height: usize, row_bytes: usize) -> Option<usize> {
        Some(self.rows(height, row_bytes)? * row_bytes * TENSORS_PER_BAND)
    }
}

/// How one picture is walked: in what pieces, and who may stop it.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub tiling: Tiling,
    pub observer: &'a dyn StepObserver,
}

impl Walk<'_> {
    /// Asked between blocks and bands.
    pub fn proceed(&self) -> Result<()> {
        observer::proceed(self.observer)
    }
}

/// A picture (1, c, y, x) whose rows are there or can be made.
pub(super) trait RowSource {
    /// (c, y, x)
    fn size(&self) -> Result<(usize, usize, usize)>;

    /// The rows `range`, (1, c, range, x).
    fn rows(&self, range: Range<usize>) -> Result<Tensor>;

    /// The picture itself, if nobody needs it afterwards and its rows may be overwritten.
    fn reusable(&self) -> Option<&Tensor> {
        None
    }
}

/// A picture that lies in memory, and that its block may overwrite.
impl RowSource for Tensor {
    fn size(&self) -> Result<(usize, usize, usize)> {
        let (_, c, y, x) = self.dims4()?;
        Ok((c, y, x))
    }

    fn rows(&self, range: Range<usize>) -> Result<Tensor> {
        ops::rows_of(self, range.start, range.len())
    }

    fn reusable(&self) -> Option<&Tensor> {
        Some(self)
    }
}

/// A picture of twice the size of `stored`: nearest neighbours, then a 3×3 convolution.
pub(super) struct Upsampled<'a> {
    pub stored: &'a Tensor,
    /// Does both.
    pub conv: &'a Conv2d,
}

impl RowSource for Upsampled<'_> {
    fn size(&self) -> Result<(usize, usize, usize)> {
        let (c, y, x) = self.stored.size()?;
        Ok((c, 2 * y, 2 * x))
    }

    fn rows(&self, range: Range<usize>) -> Result<Tensor> {
        let (_, height, _) = self.size()?;
        let band = Band::new(range, 1, height);
        let seen = band.seen.start / 2..band.seen.end.div_ceil(2); // in stored rows
        let start = 2 * seen.start;
        let y = self.conv.forward(&self.stored.rows(seen.clone())?)?;
        y.rows(band.core.start - start..band.core.end - start)
    }
}

/// Rows of a picture, and the rows around them that their computation sees.
pub(super) struct Band {
    core: Range<usize>,
    seen: Range<usize>,
}

impl Band {
    fn new(core: Range<usize>, halo: usize, height: usize) -> Self {
        let seen = core.start.saturating_sub(halo)..(core.end + halo).min(height);
        Self { core, seen }
    }

    /// The rows that the computation of the band sees.
    pub fn seen(&self) -> Range<usize> {
        self.seen.clone()
    }

    /// The core of what was computed from the rows seen.
    pub fn trim(&self, y: &Tensor) -> Result<Tensor> {
        y.rows(self.core.start - self.seen.start..self.core.end - self.seen.start)
    }
}

/// Bands of `rows` rows that together are a picture of `height` rows.
pub(super) fn bands(height: usize, rows: usize, halo: usize) -> impl Iterator<Item = Band> {
    (0..height)
        .step_by(rows)
        .map(move |start| Band::new(start..(start + rows).min(height), halo, height))
}

/// The moments of a whole picture from those of its bands.
pub(super) fn gather_moments(
    bands: impl Iterator<Item = Band>,
    walk: Walk<'_>,
    moments: impl Fn(&Band) -> Result<GroupMoments>,
) -> Result<GroupMoments> {
    let parts = bands.map(|band| {
        walk.proceed()?;
        moments(&band)
    });
    GroupMoments::merge(&parts.collect::<Result<Vec<_>>>()?)
}

/// Puts finished bands, in order, into a picture that may be the one they were computed from: a band is held back
/// until the next one, whose halo reaches into it, is finished too.
pub(super) struct BandWriter {
    picture: Option<Tensor>,
    height: usize,
    held: Option<(usize, Tensor)>,
}

impl BandWriter {
    /// Writes into a new picture of `height` rows.
    pub fn new(height: usize) -> Self {
        Self { picture: None, height, held: None }
    }

    /// Writes over `picture`.
    pub fn over(picture: &Tensor) -> Result<Self> {
        Ok(Self { height: picture.dim(2)?, picture: Some(picture.clone()), held: None })
    }

    pub fn write(&mut self, band: &Band, y: Tensor) -> Result<()> {
        let start = band.core.start;
        match self.held.replace((start, y)) {
            Some((start, y)) => self.put(start, &y),
            None => Ok(()),
        }
    }

    pub fn finish(mut self) -> Result<Tensor> {
        if let Some((start, y)) = self.held.take() {
            self.put(start, &y)?;
        }
        self.picture.ok_or_else(|| Error::invalid("height", 0, "is not a picture"))
    }

    fn put(&mut self, start: usize, y: &Tensor) -> Result<()> {
        let (b, c, _, x) = y.dims4()?;
        if self.picture.is_none() {
            self.picture = Some(ops::zero_picture((b, c, self.height, x), y.dtype(), y.device())?);
        }
        self.picture.iter().try_for_each(|picture| ops::write_rows(picture, y, start))
    }
}
