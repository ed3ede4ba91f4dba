//! What is told at the end.

use std::path::PathBuf;
use std::time::Duration;

use masuka_diffusion::adapters::{ImportReport, TensorCounts};
use masuka_diffusion::pictures::Parameters;
use serde::Serialize;
use serde_json::{Map, json};

use crate::cli::LoraArg;
use crate::commands::print_json;
use crate::progress::Progress;

/// A picture that lies on disk.
#[derive(Debug, Serialize)]
pub struct WrittenImage {
    /// Its file.
    pub path: PathBuf,
    /// The seed that makes it again.
    pub seed: u64,
}

/// What became of the tensors of a LoRA.
#[derive(Debug, Serialize)]
pub struct UsedLora {
    /// Its file.
    pub file: PathBuf,
    /// The convention of its names.
    pub format: String,
    /// Tensors in effect.
    pub applied: usize,
    /// Tensors known to have none.
    pub ignored: usize,
    /// Tensors that fit nowhere.
    pub unknown: usize,
}

impl UsedLora {
    /// What is told of `lora`.
    pub fn new(lora: &LoraArg, (report, counts): (ImportReport, TensorCounts)) -> Self {
        Self {
            file: lora.file.clone(),
            format: report.format.to_string(),
            applied: counts.applied,
            ignored: counts.ignored,
            unknown: counts.unknown,
        }
    }
}

/// A generation that went well.
#[derive(Debug)]
pub struct Report {
    /// The pictures, in order.
    pub images: Vec<WrittenImage>,
    /// What they say about themselves; the seed is the first one's.
    pub parameters: Parameters,
    /// The LoRAs, in the order of the flags.
    pub loras: Vec<UsedLora>,
    /// Tokens of the prompt for T5 and CLIP.
    pub tokens: (usize, usize),
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Wall time of the whole command.
    pub total: Duration,
}

impl Report {
    /// Files on stdout, all else on stderr; or all of it as one JSON object on stdout.
    pub fn print(&self, progress: &Progress, as_json: bool) -> anyhow::Result<()> {
        for warning in &self.warnings {
            eprintln!("warning: {warning}");
        }
        if as_json {
            return self.print_json(progress);
        }
        for lora in &self.loras {
            let UsedLora { file, format, applied, ignored, unknown } = lora;
            let file = file.display();
            eprintln!(
                "lora {file} ({format}): {applied} tensors applied, {ignored} without effect, {unknown} unknown"
            );
        }
        let (t5, clip) = self.tokens;
        let seeds: Vec<_> = self.images.iter().map(|image| image.seed.to_string()).collect();
        eprintln!("seed {}, prompt of {t5} T5 and {clip} CLIP tokens", seeds.join(", "));
        progress.print_times(self.total);
        for image in &self.images {
            println!("{}", image.path.display());
        }
        Ok(())
    }

    fn print_json(&self, progress: &Progress) -> anyhow::Result<()> {
        let mut seconds: Map<_, _> = progress
            .times()
            .into_iter()
            .map(|(stage, time)| (stage.name().to_owned(), json!(time.as_secs_f64())))
            .collect();
        seconds.insert("total".into(), json!(self.total.as_secs_f64()));
        print_json(&json!({
            "images": self.images,
            "parameters": self.parameters,
            "loras": self.loras,
            "tokens": { "t5": self.tokens.0, "clip": self.tokens.1 },
            "timings_seconds": seconds,
            "warnings": self.warnings,
        }))
    }
}

/// Names the pictures that a generation leaves behind when it ends early.
pub fn print_what_is_left(written: &[WrittenImage], asked: usize) {
    if !written.is_empty() {
        let files: Vec<_> = written.iter().map(|image| image.path.display().to_string()).collect();
        eprintln!("{} of {asked} pictures written: {}", files.len(), files.join(", "));
    }
}
