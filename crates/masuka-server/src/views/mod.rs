//! The JSON shapes of the HTTP interface. Field names are a contract with clients of the original service.

pub(crate) mod generation; // requests for pictures, and what became of them
pub(crate) mod model; // LoRA and base models
pub(crate) mod install; // base models on their way
pub(crate) mod dataset; // pictures and captions to train on
pub(crate) mod training; // trainings
pub(crate) mod queue; // the queue and its workers
pub(crate) mod progress; // what streams tell
