//! From files to components.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The files of a FLUX.1 model.
#[derive(Debug, Clone)]
pub struct FluxFiles {
    root: PathBuf,
}
