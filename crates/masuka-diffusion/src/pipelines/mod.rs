//! The whole walk from a request to pictures, one folder a family.

pub mod flux; // FLUX.1
mod component; // loaded when needed, dropped when not
mod options; // device, precision and memory mode
mod picture; // what comes out
mod request; // what a user asks for, validated

pub use options::{LoadOptions, Offload, Precision};
pub use picture::{GeneratedPicture, GenerationReport, Picture, Timings};
pub use request::{
    GenerateRequest, Guidance, MAX_IMAGES, MAX_PROMPT_CHARS, MAX_STEPS, Negative, PictureSize,
    SIDE_RANGE, SamplerName,
};
