//! The result of a run.

use std::collections::BTreeMap;

use contract::Tree;

use crate::events::RunStatus;
use crate::manifest::StageName;
use crate::plan::StageKey;
use crate::store::Record;

/// The result of a run, stage by stage.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Counts.
    pub summary: Summary,
    /// The stages that have an output.
    pub stages: BTreeMap<StageName, StageOutcome>,
    /// The duration, in seconds.
    pub seconds: f64,
}

/// A stage that has an output.
#[derive(Debug, Clone)]
pub struct StageOutcome {
    /// Its key, with the data that it was computed from.
    pub key: StageKey,
    /// The build that is used.
    pub record: Record,
    /// The files of each of its ports.
    pub trees: BTreeMap<String, Tree>,
    /// Whether it ran; otherwise its output was in the store.
    pub ran: bool,
    /// Whether it ran and its output differs from the build that is used, or from every earlier build.
    pub differs: bool,
    /// The number of builds of its key before this run.
    pub earlier: usize,
}

/// The counts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Stages that ran and succeeded.
    pub ran: usize,
    /// Stages whose output was in the store.
    pub cached: usize,
    /// Stages that failed.
    pub failed: usize,
    /// Stages that could not run, or were not started. A run with skipped but no failed stages is still done: the machine could not run an
    /// optional stage.
    pub skipped: usize,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// Whether the store, not a stage, caused a failure.
    pub store_failed: bool,
}

impl Summary {
    /// Returns the status at the end of the run.
    pub const fn status(&self) -> RunStatus {
        match self {
            Self { interrupted: true, .. } => RunStatus::Interrupted,
            Self { failed: 0, .. } => RunStatus::Done,
            _ => RunStatus::Failed,
        }
    }
}
