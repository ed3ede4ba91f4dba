//! What is measured, one file a row.

mod starter_picture; // prompt to picture on the starter model

use std::error::Error;
use std::path::PathBuf;

/// Computes repetition *n* and gives what it computed.
pub type Run = Box<dyn FnMut(usize) -> Result<Vec<f32>, Box<dyn Error>>>;

/// Loads `row` in `variant`.
pub fn open(row: &str, variant: &str) -> Result<Run, Box<dyn Error>> {
    match row {
        "starter_picture" => starter_picture::open(variant),
        _ => Err(format!("there is no row `{row}`").into()),
    }
}

/// A path within the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
