//! The second part of the walk: noise, one tensor a picture.

use candle_core::Device;

use crate::error::Result;
use crate::latents::{LatentLayout, Latents};
use crate::pipelines::GenerateRequest;

/// The noise of every picture of `request`: picture *i* from seed + *i*.
pub(super) fn prepare_latents(
    request: &GenerateRequest,
    layout: LatentLayout,
    device: &Device,
) -> Result<Vec<Latents>> {
    (0..request.num_images)
        .map(|i| Latents::noise(layout, request.size, request.seed.offset(i as u64)?, device))
        .collect()
}
