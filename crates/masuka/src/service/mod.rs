//! What server and worker share, and how they are wired. What they do lives in their own crates.

pub mod settings; // the environment's words in the crates' terms
pub mod desk; // answers of the engine for the server
mod training_plan; // a training as wished, completed and checked
pub mod registry; // which base models there are, and where their files lie
pub mod supervisor; // the worker that belongs to a server
pub mod logging; // lines on stderr
