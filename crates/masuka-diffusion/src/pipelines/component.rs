//! A part of a pipeline that is loaded when it is needed and may be dropped when it is not.

use crate::error::Result;

/// A component and the way to load it.
pub(crate) struct Component<T> {
    resident: Option<T>,
    load: Box<dyn Fn() -> Result<T> + Send + Sync>,
}

impl<T> Component<T> {
    /// A component that is not loaded yet.
    pub(crate) fn new(load: impl Fn() -> Result<T> + Send + Sync + 'static) -> Self {
        Self { resident: None, load: Box::new(load) }
    }

    /// Whether it is loaded.
    pub(crate) fn is_resident(&self) -> bool {
        self.resident.is_some()
    }

    /// The component, loaded if it was not.
    pub(crate) fn get(&mut self) -> Result<&T> {
        let component = match self.resident.take() {
            Some(component) => component,
            None => (self.load)()?,
        };
        Ok(self.resident.insert(component))
    }

    /// Gives its memory back.
    pub(crate) fn release(&mut self) {
        self.resident = None;
    }
}
