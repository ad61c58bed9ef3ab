//! A stage of a plan.

use std::collections::BTreeMap;

use contract::{Cost, Digest};
use serde::Serialize;

use super::build_name::BuildName;
use super::estimate::{Estimate, NoEstimate};
use super::reason::Reason;
use super::state::State;
use crate::key::{Key, KeyRecord};
use crate::manifest::{Edge, StageDeclaration, StageName};

/// What `run` would do with a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Its name.
    pub name: StageName,
    /// Its kind.
    pub kind: &'static str,
    /// Its key, if its inputs are known.
    pub key: Option<Key>,
    /// The content of the key, if known.
    #[serde(skip)]
    pub key_record: Option<KeyRecord>,
    /// Its state.
    pub state: State,
    /// The estimated duration, if the stage is not cached and recorded builds allow an estimate.
    pub estimate: Option<Estimate>,
    /// The reason that a stage that is not cached has no estimate.
    pub no_estimate: Option<NoEstimate>,
    /// Its cost, as far as its settings and the headers of its known inputs determine it.
    pub cost: Cost,
    /// The estimated bytes that it will write to the disk; 0 if it is cached.
    #[serde(skip)]
    pub disk: u64,
    /// The reasons; a cached stage has none, except a remark.
    pub reasons: Vec<Reason>,
    /// The build that the reasons refer to, unless the stage is cached.
    pub compared_with: Option<BuildName>,
    /// The stages that it reads from directly and whose output is not known yet.
    #[serde(skip)]
    pub unknown: Vec<StageName>,
}

/// The tree of each output port of stages, by stage.
pub type StageOutputs = BTreeMap<StageName, BTreeMap<String, Digest>>;

/// Returns the tree that each input port of a stage reads, if `outputs` has all of them.
pub fn input_trees(stage: &StageDeclaration, outputs: &StageOutputs) -> Option<BTreeMap<String, Digest>> {
    let read = |(port, edge): (&String, &Edge)| Some((port.clone(), *outputs.get(&edge.stage)?.get(&edge.output)?));
    stage.inputs.iter().map(read).collect()
}
