//! How often a connection that is cut is taken up again.

use std::time::Duration;

use reqwest::Url;

use crate::error::{Error, Result};
use crate::secret;

/// How often a download that does not advance is taken up again, and after which pause; the pause doubles.
const RETRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Patience {
    failures: u32,
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { failures: 0, pause: FIRST_PAUSE }
    }
}

impl Patience {
    /// Waits before the next attempt after one that was cut for `reason`; one that `advanced` is no failure.
    ///
    /// # Errors
    /// [`Error::Download`] when it was cut too often.
    pub(super) async fn wait(&mut self, advanced: bool, reason: String, url: &Url) -> Result<()> {
        if advanced {
            *self = Self::default();
        }
        self.failures += 1;
        if self.failures > RETRIES {
            return Err(Error::download(url, format!("{reason}; try again later")));
        }
        tracing::info!(url = secret::address(url.as_str()), "download was cut: {reason}");
        tokio::time::sleep(self.pause).await;
        self.pause *= 2;
        Ok(())
    }
}
