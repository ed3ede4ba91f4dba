//! Latents: pictures as the denoiser sees them, always f32 between steps.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::noise::{Generator, Seed};
use crate::pipelines::PictureSize;

/// How latents relate to pixels. A picture is a clip of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatentLayout {
    /// Channels of a latent.
    pub channels: usize,
    /// Pixels per latent along each side.
    pub spatial_factor: usize,
    /// Frames per latent.
    pub temporal_factor: usize,
    /// Latents per token along each side.
    pub patch: usize,
}

impl LatentLayout {
    /// Pixels per token along each side: sides of pictures are multiples of it.
    pub fn size_multiple(&self) -> usize {
        self.spatial_factor * self.patch
    }

    /// Rows and columns of tokens of a picture of `size`.
    pub fn token_grid(&self, size: PictureSize) -> (usize, usize) {
        (size.height / self.size_multiple(), size.width / self.size_multiple())
    }
}

/// Latents of one picture: (1, c, y, x) in f32.
#[derive(Debug, Clone)]
pub struct Latents {
    tensor: Tensor,
    layout: LatentLayout,
}

impl Latents {
    /// Unit noise for a picture of `size`, as `torch.randn` draws it on a CPU, whatever `device` is.
    ///
    /// # Errors
    /// When the device fails.
    pub fn noise(
        layout: LatentLayout,
        size: PictureSize,
        seed: Seed,
        device: &Device,
    ) -> Result<Self> {
        let (rows, columns) = layout.token_grid(size);
        let shape = (1, layout.channels, rows * layout.patch, columns * layout.patch);
        let values = Generator::new(seed).randn(shape.1 * shape.2 * shape.3);
        Ok(Self { tensor: Tensor::from_vec(values, shape, device)?, layout })
    }

    /// Latents (1, c, y, x) in f32, as the denoiser sees them.
    pub(crate) fn new(tensor: Tensor, layout: LatentLayout) -> Self {
        Self { tensor, layout }
    }

    /// The same picture at another point of the walk.
    #[must_use]
    pub fn with(&self, tensor: Tensor) -> Self {
        Self { tensor, layout: self.layout }
    }

    /// (1, c, y, x).
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The layout.
    pub fn layout(&self) -> LatentLayout {
        self.layout
    }

    /// Patches as tokens, (1, rows · columns, c · patch²), channels outermost within a token.
    ///
    /// # Errors
    /// When the device fails.
    pub fn pack(&self) -> Result<Tensor> {
        let (b, c, height, width) = self.tensor.dims4()?;
        let p = self.layout.patch;
        let (rows, columns) = (height / p, width / p);
        let patches = self.tensor.reshape((b, c, rows, p, columns, p))?;
        let tokens = patches.permute((0, 2, 4, 1, 3, 5))?; // (b, rows, columns, c, p, p)
        Ok(tokens.reshape((b, rows * columns, c * p * p))?)
    }

    /// The inverse of [`pack`](Self::pack), as the tensor (1, c, y, x).
    ///
    /// # Errors
    /// When `tokens` has another shape than these latents pack to.
    pub fn unpack(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, c, height, width) = self.tensor.dims4()?;
        let p = self.layout.patch;
        let patches = tokens.reshape((b, height / p, width / p, c, p, p))?;
        let planes = patches.permute((0, 3, 1, 4, 2, 5))?; // (b, c, rows, p, columns, p)
        Ok(planes.reshape((b, c, height, width))?)
    }
}
