//! Architecture layer 4: executes what the plan decides. Only [`crate::plan::Decider`] decides whether a stage is stale, once its inputs
//! are known.
//!
//! The `scheduler` owns all state. It finds the stages whose inputs are done (`dependencies`), looks up cached stages together (`lookup`),
//! decides on the others in threads (`decision`), and runs stale stages (`execution`, then `saving`) within their `resources`. A stage goes
//! through these states, one enum in `scheduler`:
//!
//! ```text
//! blocked -> deciding -> ready -> running -> done
//!            |  ^  |       |       |
//!            |  |  +-> waiting <---+    (another process holds the lock of its key)
//!            |  +--------+              (the lock is free)
//!            +--> done                  (cached)
//! ```
//!
//! A running stage may turn out to be cached if it was built while it waited for its share. Each state but `done` may also end without an
//! output: the stage failed, or it was skipped because an upstream stage has no output, the run was interrupted, or the stage is optional
//! and the machine cannot run it.

mod comparison;
mod context;
mod decision;
mod dependencies;
mod execution;
mod failure;
mod lookup;
mod memory;
mod message;
mod options;
mod outcome;
mod recorded;
pub mod resources;
mod running;
mod saving;
mod scheduler;
mod usage;

pub use failure::is_caught;
pub use options::Options;
pub use outcome::{Outcome, StageOutcome, Summary};
pub use recorded::{EVENTS, RecordedRun};
pub use resources::Budget;
pub use scheduler::run;
