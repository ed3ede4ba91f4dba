//! Memory that starts on a cache line, large pieces on huge pages; and scratch buffers that a thread keeps.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use half::{bf16, f16};

/// Bytes of a cache line and of the widest vector.
pub const LINE: usize = 64;
/// Bytes of a huge page on x86-64 and, with 4 KiB pages, on aarch64.
const HUGE_PAGE: usize = 2 << 20;
/// A multiple of the bytes of an ordinary page of every system.
#[cfg(all(unix, not(miri)))]
const SMALL_PAGE: usize = 64 << 10;

/// Numbers for which every pattern of bits is a value; all zero bits are zero.
///
/// # Safety
/// As said.
pub unsafe trait Element: Copy + Send + Sync + 'static {}

// SAFETY: plain numbers.
unsafe impl Element for u8 {}
// SAFETY: as above.
unsafe impl Element for i8 {}
// SAFETY: as above.
unsafe impl Element for u16 {}
// SAFETY: as above.
unsafe impl Element for i16 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for i32 {}
// SAFETY: as above.
unsafe impl Element for f32 {}
// SAFETY: `repr(transparent)` over u16.
unsafe impl Element for bf16 {}
// SAFETY: `repr(transparent)` over u16.
unsafe impl Element for f16 {}

/// A slice that starts on a cache line. Two mebibytes and more come straight from the system, on huge pages where it
/// has them, and go straight back to it.
pub struct AlignedBuf<T: Element> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: it owns plain numbers.
unsafe impl<T: Element> Send for AlignedBuf<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Element> Sync for AlignedBuf<T> {}

impl<T: Element> AlignedBuf<T> {
    /// `len` zeros.
    ///
    /// # Panics
    /// When memory is exhausted.
    pub fn zeroed(len: usize) -> Self {
        let layout = Self::layout(len);
        let start = match layout.size() {
            0 => NonNull::without_provenance(layout.align().try_into().expect("not zero")),
            #[cfg(all(unix, not(miri)))] // Miri cannot map or unmap parts
            size if size >= HUGE_PAGE => map_zeroed(size).cast(),
            _ => {
                // SAFETY: the size is not zero.
                let start = unsafe { alloc::alloc_zeroed(layout) };
                NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout)).cast()
            }
        };
        Self { start, len }
    }

    /// A copy of `data`.
    pub fn from_slice(data: &[T]) -> Self {
        let mut copy = Self::zeroed(data.len());
        copy.copy_from_slice(data);
        copy
    }

    fn layout(len: usize) -> Layout {
        let layout = Layout::array::<T>(len).and_then(|layout| layout.align_to(LINE));
        layout.expect("a size that fits an address")
    }
}

impl<T: Element> Drop for AlignedBuf<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        match layout.size() {
            0 => {}
            #[cfg(all(unix, not(miri)))] // Miri cannot map or unmap parts
            size if size >= HUGE_PAGE => unmap(self.start.cast(), size),
            // SAFETY: it was allocated with this layout.
            _ => unsafe { alloc::dealloc(self.start.as_ptr().cast(), layout) },
        }
    }
}

impl<T: Element> Deref for AlignedBuf<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` is valid for `len` elements, all of them initialised with zeros.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for AlignedBuf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> Clone for AlignedBuf<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl<T: Element> fmt::Debug for AlignedBuf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Zeroed pages of the system, aligned to a huge page, of which it is asked to make huge ones. What is beyond the last
/// whole huge page stays on small ones, so that a weight takes no more than its numbers.
#[cfg(all(unix, not(miri)))]
fn map_zeroed(size: usize) -> NonNull<u8> {
    let whole = size.next_multiple_of(SMALL_PAGE);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let reserved = whole + HUGE_PAGE;
    // SAFETY: a new mapping at an address of the system's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), reserved, protection, flags, -1, 0) };
    assert!(base != libc::MAP_FAILED, "{size} bytes of memory cannot be had");
    let before = base.cast::<u8>().align_offset(HUGE_PAGE);
    let start = base.cast::<u8>().wrapping_add(before);
    let after = HUGE_PAGE - before;
    // SAFETY: gives back what was mapped before and after the aligned part, and advises on that part.
    unsafe {
        if before > 0 {
            libc::munmap(base, before);
        }
        if after > 0 {
            libc::munmap(start.wrapping_add(whole).cast(), after);
        }
        #[cfg(target_os = "linux")]
        libc::madvise(start.cast(), whole, libc::MADV_HUGEPAGE);
    }
    NonNull::new(start).expect("a mapping is not at zero")
}

#[cfg(all(unix, not(miri)))]
fn unmap(start: NonNull<u8>, size: usize) {
    // SAFETY: the part that `map_zeroed` kept, which nobody uses any more.
    unsafe { libc::munmap(start.as_ptr().cast(), size.next_multiple_of(SMALL_PAGE)) };
}

/// `len` numbers of any value, for a caller that writes them all: zeros would cost as much as many a kernel. With debug
/// assertions every bit is set, NaN in floats, so that tests see what was not written.
pub fn unwritten<T: Element>(len: usize) -> Vec<T> {
    let mut numbers: Vec<T> = Vec::with_capacity(len);
    let start = numbers.as_mut_ptr();
    advise_huge_pages(start.cast(), len * size_of::<T>());
    // SAFETY: `len` elements have room. Any bits make a T; those that the allocator left are taken over by an empty piece
    // of assembly, which may have written them as far as the compiler knows, and written they are elsewhere.
    unsafe {
        if cfg!(debug_assertions) || !take_over(start.cast()) {
            start.write_bytes(0xFF, len);
        }
        numbers.set_len(len);
    }
    numbers
}

/// Asks the system for huge pages behind `start`, where whole ones have room: pictures and activations are walked in
/// strides of kilobytes, of which small pages need a translation each. Convolutions were 10 to 20 % faster.
fn advise_huge_pages(start: *mut u8, size: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    if size >= 2 * HUGE_PAGE {
        let before = start.align_offset(HUGE_PAGE);
        let whole = (size - before) / HUGE_PAGE * HUGE_PAGE;
        // SAFETY: advice on pages that the block has alone; what they hold stays.
        unsafe { libc::madvise(start.wrapping_add(before).cast(), whole, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (start, size);
}

/// Makes the bytes behind `start`, whatever they are, bytes that the program knows. False where that cannot be said.
#[inline(always)]
fn take_over(start: *mut u8) -> bool {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    // SAFETY: does nothing; without `nomem` it may touch what `start` points to.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
        true
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    {
        let _ = start;
        false
    }
}

/// Bytes of scratch that are rounded up to whole huge pages, on which products were a few per cent faster.
const WORTH_A_HUGE_PAGE: usize = 128 << 10;

/// Buffers that a thread keeps: as many as calls nest, and some for calls of other sizes.
const MOST_KEPT: usize = 6;

thread_local! {
    /// Buffers that wait for their next use on this thread, counted in f32 for their alignment's sake.
    static SCRATCH: RefCell<Vec<AlignedBuf<f32>>> = const { RefCell::new(Vec::new()) };
}

/// The smallest kept buffer that holds `words`. Where there is none, a thread that keeps many gives the largest back, in
/// whose place a larger one comes.
fn take(kept: &mut Vec<AlignedBuf<f32>>, words: usize) -> Option<AlignedBuf<f32>> {
    let large = |(_, buffer): &(usize, &AlignedBuf<f32>)| buffer.len() >= words;
    let by_size = |(_, buffer): &(usize, &AlignedBuf<f32>)| buffer.len();
    if let Some((i, _)) = kept.iter().enumerate().filter(large).min_by_key(by_size) {
        return Some(kept.swap_remove(i));
    }
    if kept.len() >= MOST_KEPT
        && let Some((i, _)) = kept.iter().enumerate().max_by_key(by_size)
    {
        kept.swap_remove(i);
    }
    None
}

/// Lends `task` a buffer of `len` elements with arbitrary content, which the thread keeps for the next call. Calls may
/// nest.
pub fn with_scratch<T: Element, R>(len: usize, task: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = len * size_of::<T>();
    let whole = if bytes >= WORTH_A_HUGE_PAGE { bytes.next_multiple_of(HUGE_PAGE) } else { bytes };
    let words = whole.div_ceil(size_of::<f32>());
    let kept = SCRATCH.with_borrow_mut(|kept| take(kept, words));
    let mut buffer = kept.unwrap_or_else(|| AlignedBuf::zeroed(words));
    // SAFETY: `buffer` holds at least `len` elements, is aligned to a line, and any bits make a T.
    let slice = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), len) };
    let result = task(slice);
    SCRATCH.with_borrow_mut(|kept| kept.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::is_too_long;

    #[test]
    fn buffers_start_on_a_line_and_hold_zeros() {
        for len in [0, 1, 17, 1000, HUGE_PAGE / 4 - 1, HUGE_PAGE / 4, HUGE_PAGE + 5] {
            if is_too_long(len) {
                continue;
            }
            let mut buffer = AlignedBuf::<f32>::zeroed(len);
            assert_eq!(buffer.as_ptr().addr() % LINE, 0);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|x| *x == 0.0));
            buffer.fill(1.0);
            assert!(buffer.clone().iter().all(|x| *x == 1.0));
        }
    }

    #[test]
    #[cfg(debug_assertions)] // elsewhere they are whatever the allocator left
    fn numbers_that_nobody_wrote_are_seen_in_tests() {
        for len in [0, 1, 10_000] {
            let numbers = unwritten::<bf16>(len);
            assert_eq!(numbers.len(), len);
            assert!(numbers.iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn scratch_is_lent_nested_and_kept() {
        let outer = with_scratch::<bf16, _>(100, |outer| {
            outer.fill(bf16::ONE);
            with_scratch::<i32, _>(10, |inner| inner.fill(-1));
            assert!(outer.iter().all(|x| *x == bf16::ONE));
            outer.as_ptr().addr()
        });
        let again = with_scratch::<u8, _>(200, |buffer| buffer.as_ptr().addr());
        assert_eq!(outer % LINE, 0);
        assert_eq!(outer, again);
    }

    #[test]
    fn a_large_buffer_is_kept_while_small_ones_come_and_go() {
        let large = || with_scratch::<f32, _>(1 << 20, |buffer| buffer.as_ptr().addr());
        let first = large();
        for len in 1..20 {
            with_scratch::<f32, _>(100 * len, |_| with_scratch::<f32, _>(7000 * len, |_| ()));
        }
        assert_eq!(large(), first);
    }
}
