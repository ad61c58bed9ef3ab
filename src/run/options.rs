//! What a run is asked for.

use std::collections::BTreeSet;

use contract::Cancel;

use super::resources::Budget;
use crate::manifest::StageName;
use crate::plan::StageOutputs;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What all stages together may use.
    pub budget: Budget,
    /// Whether a failure also keeps stages from starting that do not depend on the failed one.
    pub fail_fast: bool,
    /// The stages to bring up to date, with all their upstream stages that are not provided.
    pub wanted: BTreeSet<StageName>,
    /// Outputs of stages that are used whatever the keys of these stages are.
    pub provided: StageOutputs,
    /// Interrupts the run.
    pub cancel: Cancel,
}
