//! Floor 3: what `run` would do, and why. The one place that decides; `run` only carries out.
//!
//! A plan walks the graph in order. A stage whose inputs are all cached is decided for good by [`Decider::decide`], the
//! function that `run` calls too. The inputs of a stage downstream of one that will or may run are not known yet:
//!
//! | on record | state |
//! |---|---|
//! | no build with its kind, revision, settings and seed | `will run`: whatever its inputs turn out to hold, nothing fits |
//! | such a build | `may run`: only if an upstream stage changes its output |
//!
//! Stages with equal keys are built once, so each of the stages that may have equal keys may run. A stage whose key another
//! process builds now is `waiting`, and those downstream of it may run: that process may build them too.
//!
//! So a plan followed by a run with nothing touched agrees: `cached` stays cached, `will run` runs, `may run` does either,
//! `waiting` runs only where the other process fails.
//! A plan writes nothing, not even what it hashed.
//!
//! | module | noun |
//! |---|---|
//! | [`decide`] | the decision on one stage whose inputs are known |
//! | [`walk`] | the same for a whole graph, whose outputs are not all known yet |
//! | [`state`], [`reason`], [`estimate`] | what happens to a stage, why, and for how long |
//! | [`recipe`], [`history`] | a key less its inputs; the builds on record |
//! | [`baseline`] | the build that reasons and differences compare with |
//! | [`fit`] | what stages need, compared with what the machine has |
//! | [`lint`] | advice of stages on their inputs |
//! | [`sources`] | files outside the store |

mod baseline;
mod decide;
mod estimate;
pub mod fit;
mod history;
pub mod lint;
mod reason;
mod recipe;
mod sources;
mod state;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use contract::{Cost, Digest};
use serde::Serialize;

pub use baseline::{Baseline, BuildName, reason_lines};
pub use decide::{Decider, Decision, Keyed, SourceProblem, patterns, source_setting};
pub use estimate::{Basis, Estimate, NoEstimate, range};
pub use reason::{Reason, change};
pub use state::State;

use crate::graph::Graph;
use crate::key::{Key, KeyRecord};
use crate::manifest::{Edge, StageDeclaration, StageName};
use crate::store::StoreError;

/// What `run` would do with each stage, in the order of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<PlannedStage>,
}

/// What `run` would do with one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStage {
    /// Its name.
    pub name: StageName,
    /// Its kind.
    pub kind: &'static str,
    /// Its key, where its inputs are known.
    pub key: Option<Key>,
    /// The key written out, where it is known.
    #[serde(skip)]
    pub record: Option<KeyRecord>,
    /// What would happen.
    pub state: State,
    /// How long it may take, where it is not cached and builds on record tell.
    pub estimate: Option<Estimate>,
    /// Why they do not, where it is not cached.
    pub no_estimate: Option<NoEstimate>,
    /// What it will cost, as far as settings tell and the headers of those of its inputs that are known.
    pub cost: Cost,
    /// Why; a cached stage has none, except advice.
    pub reasons: Vec<Reason>,
    /// The build that the reasons compare with, where it is not cached.
    pub compared_with: Option<BuildName>,
    /// The stages that it reads from directly and whose output is not known yet.
    #[serde(skip)]
    pub unknown: Vec<StageName>,
}

/// The tree of each output port of stages, by stage.
pub type Outputs<'m> = BTreeMap<&'m StageName, BTreeMap<String, Digest>>;

/// The tree that each input port of a stage reads, where all that it needs is given.
pub fn inputs_of(stage: &StageDeclaration, given: &Outputs<'_>) -> Option<BTreeMap<String, Digest>> {
    let read = |(port, edge): (&String, &Edge)| Some((port.clone(), *given.get(&edge.stage)?.get(&edge.output)?));
    stage.inputs.iter().map(read).collect()
}

impl Plan {
    /// The stages that are not cached.
    pub fn stale(&self) -> BTreeSet<StageName> {
        self.stages.iter().filter(|stage| stage.state != State::Cached).map(|stage| stage.name.clone()).collect()
    }

    /// The stages that would run, each after those that it needs.
    pub fn tasks<'m>(&self, decider: &Decider<'m>) -> Vec<fit::Task<'m>> {
        let stale = self.stages.iter().filter(|planned| planned.state != State::Cached);
        let task = |planned: &PlannedStage| {
            let stage = decider.manifest.stages.get(&planned.name)?;
            Some(fit::Task {
                stage,
                cost: planned.cost,
                scratch: decider.store.work.scratch_bytes(planned.key.map(Key::digest)),
            })
        };
        stale.filter_map(task).collect()
    }

    /// Plans the stages of `wanted`, which holds with each stage all that it needs. `hashed` is told the bytes of each
    /// piece of an external file that had to be read, and stops the work by returning false.
    ///
    /// # Errors
    /// When the store or a file outside it cannot be read; [`StoreError::Interrupted`] when `hashed` returned false.
    pub fn new(
        decider: &Decider<'_>,
        graph: &Graph,
        wanted: &BTreeSet<StageName>,
        hashed: impl FnMut(u64) -> bool,
    ) -> Result<Self, StoreError> {
        let mut walk = walk::Walk::new(decider, hashed);
        for name in graph.order().iter().filter(|name| wanted.contains(*name)) {
            decider.manifest.stages.get(name).map_or(Ok(()), |stage| walk.stage(stage))?;
        }
        Ok(Self { stages: walk.finish() })
    }
}
