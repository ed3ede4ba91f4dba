//! The estimate of a training's memory against what it takes: the only test of its process, so that the peak is its own.
#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::repo;
use common::starter::{self, starter};
use masuka_training::dataset::Dataset;
use masuka_training::observer::Unobserved;
use masuka_training::recipe::Recipe;
use masuka_training::trainer::estimate_memory;

/// The most that this process has held, in bytes.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn a_training_takes_what_was_estimated_and_little_less() {
    masuka_kernels::memory::keep_freed_pages();
    let mut pipeline = starter();
    let mut recipe = Recipe { steps: 3, ..Recipe::default_for(pipeline.config(), 128) };
    recipe.schedule.warmup_steps = 0;
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = repo("fixtures/datasets/blueprint/train");
    let dataset = Dataset::open(&dataset, None).expect("pictures");
    let training = starter::training(&folder.path().join("run"), dataset, recipe);
    let estimate = estimate_memory(&pipeline, &training.recipe, false).expect("an estimate");
    let keep = estimate.choose(None).expect("no limit");
    training.run(&mut pipeline, None, &Unobserved).expect("it trains");
    let (estimated, taken) = (estimate.peak(keep), peak().expect("the kernel tells"));
    let mib = |bytes: u64| bytes >> 20;
    println!("estimated {} MiB, taken {} MiB: {estimate:?}", mib(estimated), mib(taken));
    assert!(taken <= estimated, "{} MiB, not {}", mib(taken), mib(estimated));
    // As the system has huge pages to give, the same training was seen to take 129 to 153 MiB.
    assert!(estimated - taken <= taken / 2, "{} MiB, not {}", mib(taken), mib(estimated));
}
