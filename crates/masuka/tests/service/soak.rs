//! A thousand jobs: memory and open files stay as they are.

use std::time::Instant;

use serde_json::json;

use crate::support::TestApp;

const JOBS: usize = 1000;
/// How much more memory the second half may take.
const GROWTH: f64 = 1.03;

/// Resident memory of a process in KiB, and its open files.
fn use_of(pid: u32) -> (f64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    (kib, std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its files").count())
}

#[test]
#[ignore = "takes minutes; `just test-soak` runs it"]
fn a_thousand_jobs_leave_memory_and_files_as_they_were() {
    let app = TestApp::start();
    app.wait_for(&app.generate(json!({})), "completed"); // the model is loaded once
    let processes = [("server", app.server_pid()), ("worker", app.worker())];
    let mut seen = [Vec::new(), Vec::new()];
    let start = Instant::now();
    for _ in 0..JOBS {
        app.wait_for(&app.generate(json!({ "num_inference_steps": 1 })), "completed");
        for ((_, pid), seen) in processes.iter().zip(&mut seen) {
            seen.push(use_of(*pid));
        }
    }
    let mean =
        |half: &[(f64, usize)]| half.iter().map(|(kib, _)| kib).sum::<f64>() / half.len() as f64;
    // In the middle: a file that is open for a moment only, as a lock that is looked at, stays open in no half.
    let files = |half: &[(f64, usize)]| {
        let mut files: Vec<_> = half.iter().map(|(_, files)| *files).collect();
        files.sort_unstable();
        files[files.len() / 2]
    };
    let per_job = start.elapsed().as_secs_f64() / JOBS as f64;
    for ((name, _), seen) in processes.iter().zip(&seen) {
        let (first, second) = seen.split_at(JOBS / 2);
        let (before, after) = (mean(first), mean(second));
        println!(
            "{name}: {before:.0} KiB, then {after:.0} KiB ({:.3}); files {}, then {}; {per_job:.3} s a job",
            after / before,
            files(first),
            files(second)
        );
        assert!(after <= before * GROWTH, "{name} grows from {before} to {after} KiB");
        assert!(files(second) <= files(first), "{name} leaves files open");
    }
}
