//! The peak of a process's memory, as a parent asks its child for it. Each measurement is a process of its own, because
//! an allocator keeps what one load has freed for the next.

use std::ffi::OsStr;
use std::process::Command;

/// The peak in bytes that `child`, a test of this binary, reports with these variables in its environment.
pub fn peak_of_child(child: &str, environment: &[(&str, &OsStr)]) -> u64 {
    let mut process = Command::new(std::env::current_exe().expect("this test"));
    process
        .args(["--exact", child, "--nocapture", "--include-ignored"])
        .envs(environment.iter().copied());
    let output = process.output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text.lines().find_map(|line| line.split_once("peak ")?.1.parse().ok());
    peak.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Tells the parent by how much memory rose at most above `before`.
pub fn report_peak(before: u64) {
    println!("peak {}", status("VmHWM:") - before);
}

/// What lies in memory, in bytes.
pub fn resident() -> u64 {
    status("VmRSS:")
}

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
