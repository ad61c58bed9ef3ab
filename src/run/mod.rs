//! Floor 4: executes what the plan decides. Whether a stage is stale is decided by [`crate::plan::Decider`] alone, with the inputs
//! as they turn out.
//!
//! | module | content |
//! |---|---|
//! | [`options`], [`outcome`] | what a run is asked for; its result |
//! | [`resources`], `memory` | the share of the machine of each running stage; the memory that this process may use |
//! | `scheduler` | which stage starts when; what a failure stops |
//! | `dependencies` | the stages whose inputs are done |
//! | `fast_path` | cached stages, looked up together |
//! | `decision` | one stage, from its sources to a decision: cached or stale |
//! | `execution` | one stale stage, from the lock of its key to its output |
//! | `saving` | the output of a stage, from the staging directory to its record |
//! | `context`, `failure` | what the stages of a run share; why a stage has no output |
//! | `message` | what the thread of a stage sends to the scheduler |
//! | `waiting` | a stage that another process builds |
//! | `running` | a running stage: its share and its progress |
//! | `comparison` | the output of a stage compared with an earlier one |
//! | `usage` | the memory and processor time of a stage |
//! | `recorded` | a run that is recorded in the store, with its page and lock |
//!
//! A stage goes through these states, one enum in `scheduler`:
//!
//! ```text
//! blocked -> deciding -> ready -> running -> done
//!            |  ^  |       |       |
//!            |  |  +-> waiting <---+    (another process holds the lock of its key)
//!            |  +--------+              (the lock is free)
//!            +--> done                  (cached)
//! ```
//!
//! A running stage may turn out to be cached: it was built while it waited for its share. Each state but `done` may also end
//! without an output: the stage failed, or it was skipped because an upstream stage has no output, the run was interrupted, or the stage is optional and the
//! machine cannot run it.

mod comparison;
mod context;
mod decision;
mod dependencies;
mod execution;
mod failure;
mod fast_path;
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
mod waiting;

pub use failure::is_caught;
pub use options::Options;
pub use outcome::{Outcome, StageOutcome, Summary};
pub use recorded::{EVENTS, RecordedRun};
pub use resources::Budget;
pub use scheduler::run;
