//! How the process's allocator treats large blocks.

/// Large blocks that are free, up to this many bytes at the end of the heap, stay with the process: 2 GiB, the most that
/// can be said. A picture of 1024×1024 is decoded through 1.5 GiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = libc::c_int::MAX;

/// Lets the allocator keep the pages of blocks that are freed, for the next block: a model allocates the same tens of
/// megabytes in every layer, and pages that come from the system anew each time cost a tenth of a step. To be called
/// before there are threads. Without effect where the C library is not glibc.
pub fn keep_freed_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets parameters of the allocator; it fails by returning zero, and then all is as before.
    unsafe {
        // No block has a mapping of its own, and all threads share the heap that keeps them.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Gives the pages that nothing lies on back to the system, as after a model was let go. Without effect where the C
/// library is not glibc.
pub fn give_back_freed_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator looks through its own free blocks, under its own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}
