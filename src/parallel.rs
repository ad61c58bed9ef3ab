//! The limit on threads outside of stages, and the same work on many items.
//!
//! Files are hashed on rayon's global pool, which [`limit_threads`] sizes and which runs nothing else; [`map`] starts threads that
//! end before it returns. docs/architecture.md describes all threads of the program.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;

/// Items per thread, at least: fewer take less time than to start a thread.
const MIN_ITEMS: usize = 8;
/// Threads of [`map`], at most: more wait for each other in the file system.
const MAX_THREADS: usize = 4;

static LIMIT: OnceLock<usize> = OnceLock::new();
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));
/// Threads that [`map`] has started for all its callers and that still run.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Limits the threads of [`map`] and of hashing. The first call wins: the command line is applied before `[exec]`. Without a
/// call the limit is the number of processors.
#[cfg(feature = "stages")]
pub fn limit_threads(threads: usize) {
    if LIMIT.set(threads).is_ok() {
        // Fails only where the pool is in use, and no file is hashed before a manifest is read.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

/// Returns the results of `work` for all items, in their order. A panic in `work` continues in the caller.
pub fn map<T: Sync, U: Send>(items: &[T], work: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let reserved = Reserved::new((items.len() / MIN_ITEMS).saturating_sub(1));
    let work = &|items: &[T]| items.iter().map(&work).collect::<Vec<_>>();
    let (own, others) = items.split_at(items.len().div_ceil(reserved.0 + 1));
    thread::scope(|scope| {
        let start = |items| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || work(items));
            // Without a thread the caller does the work.
            thread.map_err(|_| work(items))
        };
        let started: Vec<_> = others.chunks(own.len().max(1)).map(start).collect();
        let mut results = work(own);
        for part in started {
            match part {
                Ok(thread) => results.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
                Err(done) => results.extend(done),
            }
        }
        results
    })
}

/// Threads that one call of [`map`] may start, which count for all callers until it ends.
struct Reserved(usize);

impl Reserved {
    fn new(wanted: usize) -> Self {
        let limit = LIMIT.get().copied().unwrap_or(*PROCESSORS).min(MAX_THREADS) - 1;
        let grant = |started: usize| wanted.min(limit.saturating_sub(started));
        let before =
            STARTED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |started| Some(started + grant(started)));
        Self(before.map_or(0, grant))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        STARTED.fetch_sub(self.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_in_the_order_of_the_items() {
        for length in [0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 100, 1000, 1001] {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(super::map(&items, |item| item * 2), (0..length).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn work_may_call_map() {
        let items: Vec<usize> = (0..100).collect();
        let sum = |item: &usize| super::map(&items, |other| item * other).iter().sum::<usize>();
        assert_eq!(super::map(&items, sum), items.iter().map(|item| item * 4950).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "number 999")]
    fn a_panic_continues_in_the_caller() {
        let items: Vec<usize> = (0..1000).collect();
        super::map(&items, |item| assert!(*item < 999, "number {item}"));
    }
}
