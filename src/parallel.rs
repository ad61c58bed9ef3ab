//! The limit on threads outside of stages, and a parallel map. docs/architecture.md describes all threads.

use std::panic::resume_unwind;
use std::sync::{LazyLock, OnceLock};
use std::thread;

/// The minimum number of items per thread: processing fewer items takes less time than starting a thread.
const MIN_ITEMS: usize = 8;
/// The maximum number of threads of [`map`]: more would wait for each other in the file system.
const MAX_THREADS: usize = 4;

static LIMIT: OnceLock<usize> = OnceLock::new();
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Limits the threads of [`map`] and of hashing, which uses rayon's global pool. The first call wins: the command line is applied before
/// `[exec]`. Without a call the limit is the number of processors.
#[cfg(feature = "stages")]
pub fn limit_threads(threads: usize) {
    if LIMIT.set(threads).is_ok() {
        // Fails only if the pool is already in use; no file is hashed before a manifest is read.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

/// Returns the results of `work` for all items, in their order. A panic in `work` continues in the caller.
pub fn map<T: Sync, U: Send>(items: &[T], work: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let limit = LIMIT.get().copied().unwrap_or(*PROCESSORS).min(MAX_THREADS);
    let threads = limit.min(items.len() / MIN_ITEMS).max(1);
    let work = &|part: &[T]| part.iter().map(&work).collect::<Vec<_>>();
    thread::scope(|scope| {
        let (own, others) = items.split_at(items.len().div_ceil(threads));
        let started: Vec<_> = others.chunks(own.len().max(1)).map(|part| scope.spawn(move || work(part))).collect();
        let mut results = work(own);
        for thread in started {
            results.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    })
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
    #[should_panic(expected = "number 999")]
    fn a_panic_continues_in_the_caller() {
        let items: Vec<usize> = (0..1000).collect();
        super::map(&items, |item| assert!(*item < 999, "number {item}"));
    }
}
