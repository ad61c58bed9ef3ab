//! Runs work on parts in parallel, on as many threads as the stage has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use contract::{Context, Result, StageError};

/// Calls `work` for each item (parts, shards) on at most `context.resources.threads` threads. Returns the results in the order
/// of the items. After a failure no further item is started; the failure of the first item in order is returned.
///
/// # Errors
/// Returns an error of `work`, or an error if the stage was asked to stop.
pub fn each_part<P: Sync, T: Send>(
    context: &Context,
    items: &[P],
    work: impl Fn(&P) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, Result<T>)>> = Mutex::default();
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            let result = context.cancel.check().and_then(|()| work(item));
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    let threads = context.resources.threads.clamp(1, items.len().max(1));
    let panicked = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join()).filter(Result::is_err).count()
    });
    if panicked > 0 {
        return Err(StageError::new("a worker thread panicked"));
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
