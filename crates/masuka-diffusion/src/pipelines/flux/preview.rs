//! How a picture on its way is seen.

use super::FluxPipeline;
use crate::error::Result;
use crate::observer::StepObserver;
use crate::vaes::PreviewFactors;

impl FluxPipeline {
    /// By which factors the latents that observers see become colours; to be kept, for it takes the autoencoder a
    /// while.
    ///
    /// # Errors
    /// When the autoencoder cannot be loaded, or `observer` cancels.
    pub fn preview_factors(&mut self, observer: &dyn StepObserver) -> Result<PreviewFactors> {
        let factors = PreviewFactors::fit(self.vae.get()?, &self.options.device, observer);
        self.release_unless_kept();
        factors
    }
}
