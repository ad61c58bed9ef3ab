//! Messages from the threads of stages to the scheduler.

use std::path::PathBuf;

use contract::Cost;

use super::comparison::OutputComparison;
use super::failure::Failure;
use super::outcome::StageOutcome;
use crate::plan::{Baseline, Reason, StageKey};
use crate::store::Hit;

/// The result that the thread of a stage sends.
pub(super) enum Message {
    /// The output of the stage is in the store.
    Cached(StageKey, Box<Hit>),
    /// The stage is stale.
    Stale(Box<StaleStage>),
    /// The stage is stale, and another process holds the lock of its key.
    Locked(Box<StaleStage>),
    /// The stage has the lock of its key and runs from now on.
    Started,
    /// This file outside the store has changed since the stage was decided, so the stage did not run.
    SourceChanged(Box<StaleStage>, PathBuf),
    /// The stage ran.
    Built {
        outcome: Box<StageOutcome>,
        /// The duration of the build, in seconds.
        seconds: f64,
        /// Its output compared with the baseline.
        comparison: OutputComparison,
    },
    /// The stage has no output.
    Failed(Failure),
}

/// A stale stage.
#[derive(Debug)]
pub(super) struct StaleStage {
    pub(super) key: StageKey,
    pub(super) reasons: Vec<Reason>,
    /// The build that the reasons refer to.
    pub(super) baseline: Option<Baseline>,
    /// Its cost with its current inputs.
    pub(super) cost: Cost,
    /// Whether it runs even if its output is in the store.
    pub(super) forced: bool,
}
