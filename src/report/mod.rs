//! Floor 4: what a run did, as documents.
//!
//! | module | noun |
//! |---|---|
//! | [`run_lock`] | `run.lock`: a run written down so that it can be done again and compared |
//! | [`difference`] | two of them, compared |

pub mod difference;
pub mod run_lock;

pub use difference::Difference;
pub use run_lock::{LockedStage, RunLock};
