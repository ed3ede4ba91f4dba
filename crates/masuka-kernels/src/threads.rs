//! The one pool of threads. The caller works too; helpers spin a moment for the next piece of work, then sleep.
//!
//! Which thread runs a task is left to chance, so a task must not depend on it: callers split their work the same way
//! for any number of threads, and along no sum.

use std::any::Any;
use std::cell::Cell;
use std::hint;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// How often a helper looks for work before it sleeps: some 50 µs, longer than the pause between two operations of a
/// model and too short to be missed by others on the machine.
const SPINS: u32 = 3000;

/// Sizes the pool: `count` threads with the caller's, at least one.
pub fn set_count(count: usize) {
    POOL.count.store(count.max(1), Ordering::Relaxed);
}

/// How many threads work, with the caller's; as many as the process may run at once unless [`set_count`] said other.
pub fn count() -> usize {
    match POOL.count.load(Ordering::Relaxed) {
        0 => {
            let count = thread::available_parallelism().map_or(1, usize::from);
            POOL.count.store(count, Ordering::Relaxed);
            count
        }
        count => count,
    }
}

/// Runs `task(0)`, …, `task(tasks - 1)`, in any order, on all threads of the pool, and returns when all are done. From
/// within a task it runs on the caller's thread alone.
///
/// # Panics
/// When a task panics, with its message.
pub fn parallel_for(tasks: usize, task: impl Fn(usize) + Sync) {
    let helpers = tasks.min(count()).saturating_sub(1);
    if helpers == 0 || IN_TASK.get() {
        (0..tasks).for_each(task);
    } else {
        POOL.run(helpers, &Job { task: &task, tasks, next: AtomicUsize::new(0), helpers });
    }
}

/// Runs `task` on the caller's thread alone: what it would share out stays here.
pub fn alone<R>(task: impl FnOnce() -> R) -> R {
    let was = IN_TASK.replace(true);
    let _leave = Defer(move || IN_TASK.set(was));
    task()
}

/// Runs `task(i, chunk i)` over the pieces of `data` of `chunk` elements, of which the last may be shorter.
///
/// # Panics
/// When a task panics or `chunk` is 0.
pub fn parallel_chunks<T: Send>(
    data: &mut [T],
    chunk: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    let len = data.len();
    let start = SharedPtr::new(data);
    parallel_for(len.div_ceil(chunk), |i| {
        let offset = i * chunk;
        // SAFETY: offset < len, the pieces are disjoint, and `data` is borrowed until all tasks are done.
        let piece = unsafe { start.slice(offset, chunk.min(len - offset)) };
        task(i, piece);
    });
}

/// The start of a slice that tasks write disjoint parts of.
#[derive(Debug, Clone, Copy)]
pub struct SharedPtr<T>(*mut T);

// SAFETY: it is only dereferenced in `slice`, whose caller promises that no two threads meet.
unsafe impl<T: Send> Send for SharedPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedPtr<T> {}

impl<T> SharedPtr<T> {
    /// The start of `data`.
    pub fn new(data: &mut [T]) -> Self {
        Self(data.as_mut_ptr())
    }

    /// Part of the slice.
    ///
    /// # Safety
    /// The part must lie within the slice, which must still be borrowed, and overlap no other part in use.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that parts do not overlap")]
    pub unsafe fn slice(&self, offset: usize, len: usize) -> &mut [T] {
        // SAFETY: promised by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }

    /// A pointer to element `offset`.
    ///
    /// # Safety
    /// `offset` must lie within the slice.
    pub unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: promised by the caller.
        unsafe { self.0.add(offset) }
    }
}

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// One call of [`parallel_for`], on its caller's stack.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    helpers: usize,
}

impl Job<'_> {
    /// Takes tasks until none is left.
    fn work(&self) {
        IN_TASK.set(true);
        let _leave = Defer(|| IN_TASK.set(false));
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= self.tasks {
                break;
            }
            (self.task)(i);
        }
    }

    /// Leaves nothing to take, after a panic.
    fn abandon(&self) {
        self.next.store(self.tasks, Ordering::Relaxed);
    }
}

/// Runs a closure when it goes out of scope, in a panic too.
struct Defer<F: Fn()>(F);

impl<F: Fn()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

struct Pool {
    /// Threads with the caller's; 0 until it is known.
    count: AtomicUsize,
    /// The helpers; whoever holds the lock owns the pool for one job.
    helpers: Mutex<Vec<Thread>>,
    job: AtomicPtr<Job<'static>>,
    /// The job's number << 32 | OPEN | how many helpers are in it.
    state: AtomicU64,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Helpers may still join.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;

static POOL: Pool = Pool {
    count: AtomicUsize::new(0),
    helpers: Mutex::new(Vec::new()),
    job: AtomicPtr::new(ptr::null_mut()),
    state: AtomicU64::new(0),
    panic: Mutex::new(None),
};

impl Pool {
    fn run(&'static self, wanted: usize, job: &Job<'_>) {
        let mut helpers = lock(&self.helpers);
        while helpers.len() < wanted {
            let helper = self.spawn(helpers.len());
            helpers.push(helper);
        }
        let number = (self.state.load(Ordering::Relaxed) >> 32) + 1;
        self.job.store(ptr::from_ref(job).cast_mut().cast(), Ordering::Relaxed);
        self.state.store(number << 32 | OPEN, Ordering::Release);
        helpers[..wanted].iter().for_each(Thread::unpark);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| job.work()));
        if outcome.is_err() {
            job.abandon();
        }
        self.close();
        let panic = lock(&self.panic).take().or(outcome.err());
        drop(helpers);
        if let Some(panic) = panic {
            panic::resume_unwind(panic);
        }
    }

    /// Lets nobody join any more, then waits for those inside. A helper that slept through the job is not waited for.
    fn close(&self) {
        let mut state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while state & INSIDE != 0 {
            if spins < SPINS {
                spins += 1;
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
            state = self.state.load(Ordering::Acquire);
        }
    }

    fn spawn(&'static self, index: usize) -> Thread {
        let builder = thread::Builder::new().name(format!("kernels-{}", index + 1));
        let handle = builder.spawn(move || self.serve(index)).expect("a thread can be started");
        handle.thread().clone()
    }

    fn serve(&self, index: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_job_after(seen);
            if !self.join(seen) {
                continue;
            }
            // SAFETY: whoever has joined keeps `run` from returning, and with it the job alive.
            let job = unsafe { &*self.job.load(Ordering::Relaxed) };
            if index < job.helpers
                && let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| job.work()))
            {
                job.abandon();
                lock(&self.panic).get_or_insert(panic);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    fn wait_for_job_after(&self, seen: u64) -> u64 {
        let mut spins = 0;
        loop {
            let number = self.state.load(Ordering::Relaxed) >> 32;
            if number != seen {
                return number;
            }
            if spins < SPINS {
                spins += 1;
                hint::spin_loop();
            } else {
                thread::park();
            }
        }
    }

    /// Counts the calling helper into job `number`, unless it is over.
    fn join(&self, number: u64) -> bool {
        let is_open = |state: u64| state >> 32 == number && state & OPEN != 0;
        let join = |state| is_open(state).then_some(state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, join).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_task_runs_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 5, 1] {
            set_count(threads);
            for tasks in [0, 1, 2, 7, 1000] {
                let runs: Vec<_> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
                parallel_for(tasks, |i| {
                    runs[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn chunks_cover_the_slice_and_the_last_may_be_short() {
        let mut data = vec![0; 103];
        parallel_chunks(&mut data, 10, |i, chunk| {
            chunk.iter_mut().enumerate().for_each(|(j, x)| *x = 10 * i + j);
        });
        assert!(data.iter().enumerate().all(|(i, x)| i == *x));
    }

    #[test]
    fn a_task_may_split_its_own_work_and_two_callers_may_meet() {
        set_count(2);
        let sum = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    parallel_for(8, |_| {
                        parallel_for(8, |_| {
                            sum.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        assert_eq!(sum.into_inner(), 128);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        set_count(2);
        let outcome = panic::catch_unwind(|| parallel_for(64, |i| assert!(i != 40, "task 40")));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"task 40"));
        let sum = AtomicU32::new(0);
        parallel_for(64, |_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 64);
    }
}
