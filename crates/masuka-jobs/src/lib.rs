//! The worker: claims jobs, keeps their leases and runs them on the engine. The only caller of pipelines; HTTP is not
//! known here.

// Reading order: the loop, what it runs, then what helps it.
pub mod worker; // claim, run, finish, again
mod generate_image; // a job: prompt to published pictures
mod train_lora; // a job: pictures to a registered adapter
mod failure; // what a user is told when a job cannot be done
mod model_cache; // what is loaded
mod lora_cache; // LoRA that were used lately
mod lease_keeper; // signs of life from a thread of its own
mod control; // why a running job should stop
mod previews; // what is seen of a picture on its way
mod watch; // progress of a running job
pub mod base_models; // what a base model suggests and allows

pub use control::Stop;
pub use model_cache::EngineOptions;
pub use worker::{Worker, WorkerOptions};
