//! Database rows and blobs. The only room that opens the database or writes user files; what a job computes and how
//! HTTP spells it is not known here.

// Reading order: what is kept, where it is kept, then the queue over it.
pub mod error; // what can go wrong
mod secret; // texts that are shown nowhere
pub mod config; // which database, which blobs
pub mod database; // connections, transactions, the database's clock
pub mod migrations; // the schema, step by step
pub mod entities; // rows, one file a table
pub mod settings; // values that all processes share
pub mod events; // what happened to a job, in order
pub mod queue; // jobs: enqueue, claim, renew, finish, cancel, reap
pub mod processes; // servers and workers, and which of them live
pub mod generations; // pictures as users asked for them
pub mod base_models; // installed base models
pub mod lora_models; // imported and trained LoRA
pub mod datasets; // pictures and captions to train on
pub mod trainings; // what is learned from them
pub mod blobs; // files: local folder or S3
pub mod downloads; // files from elsewhere: resumed, capped, checked
pub mod disk; // how much room there is
pub mod bus; // signals between processes: lossy, at once
mod file_cache; // copies of blobs for the engine, within limits
mod reconcile; // whether files and rows agree
mod storage; // all of it behind one door

pub use config::StorageConfig;
pub use error::{Error, Result};
pub use file_cache::CacheLimits;
pub use reconcile::Disagreements;
pub use secret::Secret;
pub use storage::{Link, Storage};
