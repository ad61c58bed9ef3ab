//! The options of a run.

use std::collections::BTreeSet;

use contract::Cancel;

use super::resources::Budget;
use crate::manifest::StageName;
use crate::plan::StageOutputs;

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The resources of all stages together.
    pub budget: Budget,
    /// Whether, after a failure, stages that do not depend on the failed one are not started either.
    pub fail_fast: bool,
    /// The stages to bring up to date, with all their upstream stages that are not provided.
    pub wanted: BTreeSet<StageName>,
    /// Outputs of stages that are used unchanged, whatever the keys of the stages.
    pub provided: StageOutputs,
    /// Interrupts the run.
    pub cancel: Cancel,
}
