//! The sizes of a model from the shapes of its tensors, for checkpoints that come without a `config.json`.

use std::path::Path;

use super::source::TensorSource;
use crate::error::{Error, Result};

/// A model's configuration, most of which the shapes of a checkpoint tell.
pub trait FromShapes: Sized {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// When it cannot be read or describes a model that is not supported.
    fn read(path: &Path) -> Result<Self>;

    /// The configuration of a checkpoint in our names; what no shape tells is as in FLUX.1.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing.
    fn from_shapes(shapes: Shapes<'_>) -> Result<Self>;

    /// Refuses sizes that the architecture cannot have; `file` is named in the error.
    ///
    /// # Errors
    /// [`Error::Model`] with the field and its value.
    fn validate(&self, file: &str) -> Result<()>;

    /// Whether `other` has these sizes, as far as shapes tell.
    fn fits(&self, other: &Self) -> bool;
}

/// The shapes of a checkpoint in our names.
#[derive(Clone, Copy)]
pub struct Shapes<'a>(pub &'a dyn TensorSource);

impl Shapes<'_> {
    /// The sides of `name`.
    ///
    /// # Errors
    /// When it is missing or has another number of axes.
    pub fn of<const AXES: usize>(self, name: &str) -> Result<[usize; AXES]> {
        let shape = self.0.shape(name).ok_or_else(|| self.0.missing(name))?;
        <[usize; AXES]>::try_from(shape).map_err(|shape| {
            let message = format!(
                "tensor `{}` has shape {shape:?}, expected {AXES} axes; is this checkpoint of another architecture?",
                self.0.spelling(name)
            );
            Error::model(self.0.location(name), message)
        })
    }

    /// Whether `name` is there.
    pub fn has(self, name: &str) -> bool {
        self.0.shape(name).is_some()
    }

    /// How many modules `stack.0`, `stack.1`, … there are.
    pub fn count(self, stack: &str) -> usize {
        let number = |name: &String| {
            let rest = name.strip_prefix(stack)?.strip_prefix('.')?;
            rest.split_once('.')?.0.parse::<usize>().ok()
        };
        self.0.names().iter().filter_map(number).max().map_or(0, |last| last + 1)
    }
}
