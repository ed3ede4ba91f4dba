//! What answers, one file a subject.

pub(crate) mod generations; // pictures
pub(crate) mod archive; // many pictures in one download
pub(crate) mod progress; // streams
pub(crate) mod models; // LoRA
pub(crate) mod import; // LoRA from elsewhere
pub(crate) mod base_models; // base models
pub(crate) mod installs; // base models from a hub or the import folder
pub(crate) mod datasets; // pictures to train on, in sets
pub(crate) mod dataset_images; // one by one
pub(crate) mod trainings; // what is learned from them
pub(crate) mod queue; // the queue
#[expect(unused_qualifications, reason = "the description of its query is written out by utoipa")]
pub(crate) mod files; // signed downloads
pub(crate) mod session; // the key as a cookie
pub(crate) mod service; // health, metrics, the machine
pub(crate) mod page; // the web page, and what is nowhere
