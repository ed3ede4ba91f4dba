//! The last part of the walk: latents to pixels.

use crate::error::Result;
use crate::latents::Latents;
use crate::observer::StepObserver;
use crate::pipelines::Picture;
use crate::vaes::{AutoencoderKl, Tiling};

/// The picture of `latents`.
pub(super) fn decode_latents(
    vae: &AutoencoderKl,
    latents: &Latents,
    tiling: Tiling,
    observer: &dyn StepObserver,
) -> Result<Picture> {
    Picture::from_decoded(&vae.decode(latents.tensor(), tiling, observer)?)
}
