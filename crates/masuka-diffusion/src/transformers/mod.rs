//! Denoisers: one architecture, one folder.

pub mod flux; // FLUX.1: double- and single-stream blocks over text and image tokens
