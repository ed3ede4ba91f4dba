//! HTTP: routes, JSON shapes, events, limits. Never sees a tensor: what only the engine can answer is asked through
//! [`EngineDesk`](desk::EngineDesk).

// Reading order: all routes, what they take and give, then what stands around them.
mod routes; // every route, on one page
mod handlers; // one file a subject
mod views; // the JSON shapes
mod examples; // one of each, for the document
mod resolve; // a request's values, checked and completed
mod resolve_training; // the same for trainings
mod extract; // bodies, with our own errors
mod connections; // accepted, kept, closed
mod stalled_body; // bodies that stop coming
mod dataset_intake; // pictures and captions as they arrive, loose or in zips
mod error; // what can go wrong, as HTTP: the only place
pub mod desk; // questions that only the engine can answer
mod app; // what all handlers share
mod guard; // who may ask: keys, hosts, origins
mod telemetry; // one line and one count a request
mod installs; // base models on their way here
mod event_pump; // events of the database, to many listeners
mod streams; // what each of them is told
mod housekeeping; // dead workers, deleted pictures
mod temporary; // files that go away with their owner
mod times; // milliseconds as RFC 3339

pub use app::{Server, ServerOptions};
pub use routes::open_api;
