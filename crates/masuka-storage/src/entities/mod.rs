//! Rows, one file a table. Derived columns do not exist: a generation's status is its job's.

pub mod job; // the queue
pub mod job_event; // what happened
pub mod process; // servers and workers
pub mod generation; // what was asked for
pub mod output; // published pictures
pub mod base_model; // installed base models
pub mod lora_model; // LoRA
pub mod dataset; // pictures to train on
pub mod dataset_image; // one of them
pub mod training_session; // a training
pub mod training_checkpoint; // its state after some steps
pub mod training_sample; // a picture drawn meanwhile
pub mod training_loss; // the loss of a step
