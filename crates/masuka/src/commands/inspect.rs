//! `masuka inspect`: what a picture or a checkpoint file says about itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use masuka_diffusion::adapters::{ImportReport, LoraAdapter};
use masuka_diffusion::pictures::{Parameters, PngFacts, read_png};
use masuka_diffusion::weights::summary::CheckpointSummary;
use serde_json::json;

use super::print_json;
use crate::cli::InspectArgs;

/// Metadata values are printed up to this length; JSON gives them whole.
const MAX_VALUE_CHARS: usize = 200;

/// Prints what the file of `args` holds.
pub fn run(args: &InspectArgs) -> anyhow::Result<()> {
    if is_checkpoint(&args.file)? {
        let summary = CheckpointSummary::read(&args.file)?;
        let lora = lora_report(&args.file, &summary)?;
        return if args.json {
            checkpoint_json(&summary, lora.as_ref())
        } else {
            checkpoint_text(&summary, lora.as_ref())
        };
    }
    let facts = read_png(&args.file)?;
    if args.json { picture_json(&facts) } else { picture_text(&facts) }
}

/// By name or by content; everything else is taken for a picture.
fn is_checkpoint(path: &Path) -> anyhow::Result<bool> {
    let mut start = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read(&mut start));
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    let named = path.extension().is_some_and(|e| e == "safetensors" || e == "gguf");
    Ok(named || start == *b"GGUF")
}

/// What the file is as a LoRA; none if it is something else.
fn lora_report(path: &Path, summary: &CheckpointSummary) -> anyhow::Result<Option<ImportReport>> {
    if summary.format != "safetensors" || !LoraAdapter::recognises(path)? {
        return Ok(None);
    }
    Ok(Some(LoraAdapter::open(path)?.report()))
}

fn picture_json(facts: &PngFacts) -> anyhow::Result<()> {
    print_json(&json!({
        "format": "png",
        "width": facts.width,
        "height": facts.height,
        "parameters": facts.parameters,
    }))
}

fn picture_text(facts: &PngFacts) -> anyhow::Result<()> {
    println!("picture   {} × {} pixels, PNG", facts.width, facts.height);
    let Some(parameters) = &facts.parameters else {
        println!("it does not say how it was made");
        return Ok(());
    };
    for (name, value) in rows(parameters) {
        println!("{name:<9} {value}");
    }
    Ok(())
}

fn rows(p: &Parameters) -> Vec<(&'static str, String)> {
    fn row(name: &'static str, value: Option<impl ToString>) -> Option<(&'static str, String)> {
        value.map(|value| (name, value.to_string()))
    }
    let size = p.width.zip(p.height).map(|(width, height)| format!("{width} × {height}"));
    let loras =
        p.loras.iter().map(|lora| row("lora", Some(format!("{}:{}", lora.file, lora.weight))));
    let rows = [
        row("prompt", Some(&p.prompt)),
        row("negative", p.negative.as_ref()),
        row("true cfg", p.true_cfg),
        row("seed", p.seed),
        row("steps", p.steps),
        row("sampler", p.sampler.as_ref()),
        row("guidance", p.guidance),
        row("size", size),
        row("model", p.model.as_ref()),
        row("dtype", p.dtype.as_ref()),
        row("version", p.version.as_ref()),
    ];
    rows.into_iter().chain(loras).flatten().collect()
}

fn checkpoint_json(summary: &CheckpointSummary, lora: Option<&ImportReport>) -> anyhow::Result<()> {
    print_json(&json!({
        "format": summary.format,
        "tensors": summary.tensors,
        "parameters": summary.parameters,
        "dtypes": summary.dtypes,
        "lora_ranks": summary.lora_ranks,
        "lora": lora,
        "metadata": summary.metadata,
    }))
}

fn checkpoint_text(summary: &CheckpointSummary, lora: Option<&ImportReport>) -> anyhow::Result<()> {
    println!("format     {}", summary.format);
    println!("tensors    {} with {} parameters", summary.tensors, counted(summary.parameters));
    let dtypes: Vec<_> = summary.dtypes.iter().map(|(dtype, n)| format!("{dtype} × {n}")).collect();
    println!("dtypes     {}", dtypes.join(", "));
    if let Some(lora) = lora {
        lora_text(lora);
    }
    for (key, value) in &summary.metadata {
        let line = value.split_whitespace().collect::<Vec<_>>().join(" ");
        let short: String = line.chars().take(MAX_VALUE_CHARS).collect();
        let more = if short.len() < line.len() { "…" } else { "" };
        println!("metadata   {key}: {short}{more}");
    }
    Ok(())
}

fn lora_text(lora: &ImportReport) {
    fn listed(items: impl Iterator<Item = String>) -> String {
        items.collect::<Vec<_>>().join(", ")
    }
    let methods = listed(lora.methods.iter().map(|(method, n)| format!("{method} × {n}")));
    println!("lora       {} names, for {}: {methods}", lora.format, lora.base);
    println!("targets    {}", listed(lora.targets.iter().map(|(t, n)| format!("{t} × {n}"))));
    if !lora.ranks.is_empty() {
        println!(
            "ranks      {}",
            listed(lora.ranks.iter().map(|(rank, n)| format!("{rank} × {n}")))
        );
        println!("alpha      {}", listed(lora.alphas.iter().map(ToString::to_string)));
    }
    let ImportReport { applied, ignored, zero, unknown, .. } = lora;
    println!(
        "applied    {applied} tensors, {ignored} without effect, {zero} zero, {unknown} unknown"
    );
}

/// 11_900_000_000 as `11.9 billion`.
fn counted(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} million", count as f64 / 1e6),
        _ => format!("{:.1} billion", count as f64 / 1e9),
    }
}
