//! Base models on their way into this server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorDetail;

/// A base model to be installed: one of `repo` and `path`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallBody {
    /// A model of the hub: OWNER/NAME, with @REVISION for another than main, with :FILE for a single file.
    pub repo: Option<String>,
    /// A folder in the layout of diffusers, or a checkpoint file, in the server's import folder; it is used where it is.
    pub path: Option<String>,
    /// An installed base model that gives the parts which the files lack, as encoders and autoencoder where there is only
    /// the transformer.
    pub base: Option<String>,
    /// The id by which requests will ask for it [default: its name]
    pub id: Option<String>,
}

/// A base model on its way.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct InstallView {
    /// The id that the base model will have.
    pub id: String,
    /// What is installed, as it was asked for.
    pub source: String,
    pub status: InstallStatus,
    /// The file that is fetched.
    pub file: Option<String>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes of the whole model; 0 until the hub has told.
    pub total_bytes: u64,
    /// Why it failed, with what to do about it.
    pub error: Option<ErrorDetail>,
}

/// What becomes of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstallStatus {
    /// It is fetched or examined.
    Installing,
    /// The base model is there; said once, in the stream.
    Completed,
    /// It stays listed until it is tried again or dismissed.
    Failed,
    /// It was stopped, or dismissed; said once, in the stream.
    Cancelled,
}
