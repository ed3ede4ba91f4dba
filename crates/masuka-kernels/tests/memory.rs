//! Pages of freed blocks: kept for the next block, and given back when that is asked for. A process of its own, since
//! the allocator is the whole process's.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use masuka_kernels::memory::{give_back_freed_pages, keep_freed_pages};

const BLOCKS: usize = 200;
const BLOCK_BYTES: usize = 1 << 20;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("KiB");
    kib << 10
}

#[test]
fn freed_pages_stay_until_they_are_given_back() {
    keep_freed_pages();
    // The thread of a test has a heap of its own already; one that begins now shares the process's.
    std::thread::spawn(keep_and_give_back).join().expect("no assertion failed");
}

fn keep_and_give_back() {
    let before = resident();
    let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; BLOCK_BYTES]).collect();
    drop(blocks);
    let kept = resident();
    assert!(kept > before + BLOCKS * BLOCK_BYTES / 2, "{before}, then {kept}");
    give_back_freed_pages();
    let after = resident();
    assert!(after < before + BLOCKS * BLOCK_BYTES / 10, "{before}, {kept}, then {after}");
}
