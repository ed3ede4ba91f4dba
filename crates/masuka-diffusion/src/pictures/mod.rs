//! Finished pictures as files that say how they were made. What is drawn on them is the business of the pipelines.

mod parameters; // everything needed to make the picture again
mod infotext; // the same as one text, as the AUTOMATIC1111 family of tools writes it
mod text_chunks; // PNG text chunks, read without trusting the file
mod png; // pixels and parameters to PNG, and back
mod file_hash; // by which hashes tools know a LoRA file

pub use image::RgbImage;

pub use file_hash::{FileHashes, hash_safetensors};
pub use parameters::{LoraUse, Parameters};
pub use png::{PngFacts, encode_png, read_png};
