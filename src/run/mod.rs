//! Floor 4: carries out what the plan decides. Nothing here decides whether a stage is stale: [`crate::plan::Decider`]
//! does, with the inputs as they turn out.
//!
//! | module | noun |
//! |---|---|
//! | [`resources`] | the machine's share for each running stage |
//! | `memory` | the memory that this process may use |
//! | `scheduler` | which stage starts when; what a failure stops |
//! | `frontier` | the stages whose inputs are done |
//! | `decision` | one stage, from its sources to an answer: cached or stale |
//! | `at_once` | stages that are cached, looked up together |
//! | `execution` | one stage, from its lock to its record |
//! | `message` | what a stage's thread says to the scheduler |
//! | `waiting` | a stage that another process builds |
//! | `running` | a stage that runs: its share, and how far it is |
//! | `change` | what a stage gave against what it gave last |
//! | `usage` | memory and processor time that a stage took |
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
//! without an output: failed, or skipped because a stage that it needs has none or the run was asked to stop.

mod at_once;
mod change;
mod decision;
mod execution;
mod frontier;
mod memory;
mod message;
pub mod resources;
mod running;
mod scheduler;
mod usage;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use contract::{Cancel, Digest, Tree};

pub use execution::is_caught;
pub use resources::Budget;
pub use scheduler::run;

use crate::events::RunStatus;
use crate::manifest::StageName;
use crate::plan::Keyed;
use crate::store::Record;

/// The tree of each output port of stages, by stage.
pub type Given = BTreeMap<StageName, BTreeMap<String, Digest>>;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What all stages together may use.
    pub budget: Budget,
    /// Whether a failure also stops stages that do not need the failed one from starting.
    pub fail_fast: bool,
    /// The stages to bring up to date, with all that they need and that is not given.
    pub wanted: BTreeSet<StageName>,
    /// What stages gave that are taken as done, whatever their keys are.
    pub given: Given,
    /// Asks the run to stop.
    pub cancel: Cancel,
}

/// What became of a run, stage by stage.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// In figures.
    pub summary: Summary,
    /// The stages that have an output.
    pub stages: BTreeMap<StageName, StageOutcome>,
    /// How long it took.
    pub seconds: f64,
}

/// A stage that has an output.
#[derive(Debug, Clone)]
pub struct StageOutcome {
    /// Its key, with what went into it.
    pub keyed: Keyed,
    /// The build that is used.
    pub record: Record,
    /// The files of each of its ports.
    pub trees: BTreeMap<String, Tree>,
    /// Whether it ran; else its output was in the store.
    pub ran: bool,
    /// Whether it ran and gave other bytes than the build that is used, or than every earlier one.
    pub differs: bool,
    /// Builds of its key before this run.
    pub earlier: usize,
}

/// What became of a run, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Stages that ran to their end.
    pub ran: usize,
    /// Stages whose output was in the store.
    pub cached: usize,
    /// Stages that failed.
    pub failed: usize,
    /// Stages that could not run, or were not started.
    pub skipped: usize,
    /// Whether it was asked to stop.
    pub interrupted: bool,
    /// Whether the store, not a stage, was the cause of a failure.
    pub store_failed: bool,
}

impl Summary {
    /// How the run ended.
    pub const fn status(&self) -> RunStatus {
        match self {
            Self { interrupted: true, .. } => RunStatus::Interrupted,
            Self { failed: 0, skipped: 0, .. } => RunStatus::Done,
            _ => RunStatus::Failed,
        }
    }
}
