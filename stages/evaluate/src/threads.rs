//! The stage's thread pool.

use contract::{Context, Result, StageError};

/// Runs `work` on as many threads as the stage has: Burn's CPU backend computes on the rayon pool of the calling thread.
///
/// # Errors
/// Returns an error if the threads cannot be started, and the errors of `work`.
pub fn on_threads<T: Send>(context: &Context, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(context.resources.threads.max(1)).build();
    pool.map_err(|error| StageError::new(format!("cannot start threads: {error}")))?.install(work)
}
