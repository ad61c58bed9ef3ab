//! Floor 3: what `run` would do, and why. The one place that decides; `run` only carries out.
//!
//! A plan walks the graph in order. A stage whose inputs are all cached is decided for good by [`Decider::decide`], the
//! function that `run` calls too. A stage below one that will or may run has inputs nobody knows yet:
//!
//! | on record | state |
//! |---|---|
//! | no build with its kind, revision, settings and seed | `will run`: whatever its inputs turn out to hold, nothing fits |
//! | such a build | `may run`: only if an upstream stage changes its output |
//!
//! Stages with equal keys are built once, so of stages that may turn out to have equal keys each may run.
//!
//! So a plan followed by a run with nothing touched agrees: `cached` stays cached, `will run` runs, `may run` does either.
//! A plan writes nothing, not even what it hashed.

mod decide;
mod reason;
mod sources;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;
use serde::Serialize;

pub use decide::{Decider, Decision, Keyed};
pub use reason::Reason;
pub use state::State;

use crate::graph::Graph;
use crate::key::{Key, KeyRecord};
use crate::manifest::{StageDeclaration, StageName};
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
    /// What would happen.
    pub state: State,
    /// Why; empty for a cached stage.
    pub reasons: Vec<Reason>,
}

impl Plan {
    /// Plans the stages of `wanted`, which holds with each stage all that it needs.
    ///
    /// # Errors
    /// When the store or a file outside it cannot be read.
    pub fn new(decider: &Decider<'_>, graph: &Graph, wanted: &BTreeSet<StageName>) -> Result<Self, StoreError> {
        let mut outputs: BTreeMap<StageName, BTreeMap<String, Digest>> = BTreeMap::new();
        let mut recipes = None;
        // Stages to run whose key is known, by key: one of them builds it, the others find its output.
        let mut building: BTreeMap<Key, Vec<StageName>> = BTreeMap::new();
        // How many stages are not cached, by recipe: one whose inputs nobody knows yet may turn out to have another's key.
        let mut stale: BTreeMap<Recipe, usize> = BTreeMap::new();
        let mut stages = Vec::new();
        for name in graph.order().iter().filter(|name| wanted.contains(*name)) {
            let Some(stage) = decider.manifest.stages.get(name) else { continue };
            let (key, state, reasons) = match known_inputs(stage, &outputs) {
                Ok(inputs) => match decider.decide(stage, &inputs, |_| true)? {
                    Decision::Cached(keyed, hit) => {
                        outputs.insert(name.clone(), hit.record.outputs);
                        (Some(keyed.key), State::Cached, Vec::new())
                    }
                    Decision::Run(keyed, mut reasons) => {
                        let holder = decider.store.holder(keyed.key.digest())?;
                        reasons.extend(holder.map(|holder| Reason::Held { holder: holder.to_string() }));
                        building.entry(keyed.key).or_default().push(name.clone());
                        *stale.entry(recipe(&keyed.record)).or_default() += 1;
                        (Some(keyed.key), State::WillRun, reasons)
                    }
                    Decision::Blocked(reasons) => (None, State::WillRun, reasons),
                },
                Err(upstream) => {
                    let recipes = match &mut recipes {
                        Some(recipes) => recipes,
                        none => none.insert(recorded_recipes(decider)?),
                    };
                    let own = recipe(&own_record(decider, stage));
                    let is_new = !recipes.contains(&own);
                    *stale.entry(own).or_default() += 1;
                    let state = if is_new || decider.forced.contains(name) { State::WillRun } else { State::MayRun };
                    (None, state, below_stale(decider, stage, upstream, state)?)
                }
            };
            stages.push(PlannedStage { name: name.clone(), kind: stage.kind.name, key, state, reasons });
        }
        for planned in stages.iter_mut().filter(|planned: &&mut PlannedStage| planned.state == State::WillRun) {
            let Some(stage) = decider.manifest.stages.get(&planned.name) else { continue };
            if decider.forced.contains(&planned.name) {
                continue;
            }
            let twin = planned.key.and_then(|key| building.get(&key)?.iter().find(|twin| **twin != planned.name));
            planned.reasons.extend(twin.map(|twin| Reason::SameKey { stage: twin.clone() }));
            let alike = stale.get(&recipe(&own_record(decider, stage))).is_some_and(|stages| *stages > 1);
            if twin.is_some() || (planned.key.is_none() && alike) {
                planned.state = State::MayRun;
            }
        }
        Ok(Self { stages })
    }
}

/// The content of each input port, or the stages whose output nobody knows yet.
fn known_inputs(
    stage: &StageDeclaration,
    outputs: &BTreeMap<StageName, BTreeMap<String, Digest>>,
) -> Result<BTreeMap<String, Digest>, Vec<StageName>> {
    let mut inputs = BTreeMap::new();
    let mut unknown = BTreeSet::new();
    for (port, edge) in &stage.inputs {
        match outputs.get(&edge.stage).and_then(|trees| trees.get(&edge.output)) {
            Some(digest) => drop(inputs.insert(port.clone(), *digest)),
            None => drop(unknown.insert(edge.stage.clone())),
        }
    }
    if unknown.is_empty() { Ok(inputs) } else { Err(unknown.into_iter().collect()) }
}

/// Reasons of a stage below one that is not cached: what differs in itself, then the upstream stages.
fn below_stale(
    decider: &Decider<'_>,
    stage: &StageDeclaration,
    upstream: Vec<StageName>,
    state: State,
) -> Result<Vec<Reason>, StoreError> {
    let mut reasons = Vec::new();
    if decider.forced.contains(&stage.name) {
        reasons.push(Reason::Forced);
    }
    match decider.last_build(stage)? {
        None if state == State::WillRun => reasons.push(Reason::NeverBuilt),
        None => {}
        Some((_, old)) => {
            let own = KeyRecord::difference(&old, &own_record(decider, stage));
            let own: Vec<_> = own.into_iter().filter(|difference| is_own(&difference.path)).collect();
            reasons.extend(decider.reasons(stage, &own));
        }
    }
    if state == State::MayRun || reasons.is_empty() {
        reasons.push(Reason::Upstream { stages: upstream });
    }
    Ok(reasons)
}

/// The key of a stage written out, less what it reads.
fn own_record(decider: &Decider<'_>, stage: &StageDeclaration) -> KeyRecord {
    decider.keyed(stage, &BTreeMap::new(), Default::default()).record
}

fn is_own(path: &str) -> bool {
    !path.starts_with("inputs.") && path != "sources"
}

/// What a key holds besides what it reads.
type Recipe = Vec<(String, String)>;

fn recipe(record: &KeyRecord) -> Recipe {
    let own = record.leaves().iter().filter(|leaf| is_own(&leaf.path));
    own.map(|leaf| (leaf.path.clone(), leaf.value.clone())).collect()
}

/// The recipes of all builds on record.
fn recorded_recipes(decider: &Decider<'_>) -> Result<BTreeSet<Recipe>, StoreError> {
    let mut recipes = BTreeSet::new();
    for key in decider.store.keys()? {
        for build in decider.store.builds(key)?.records.values() {
            recipes.extend(KeyRecord::from_value(&build.key_record).ok().as_ref().map(recipe));
        }
    }
    Ok(recipes)
}
