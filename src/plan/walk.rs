//! The plan of a graph, stage by stage.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Cost, Digest};
use serde::Serialize;

use super::baseline::Baseline;
use super::decide::{Decider, Decision};
use super::estimate::Estimate;
use super::fit::Task;
use super::planned::{PlannedStage, StageOutputs};
use super::reason::Reason;
use super::recipe::{Recipe, recipe_differences};
use super::size::Sizes;
use super::state::State;
use crate::graph::Graph;
use crate::key::{Key, KeyRecord};
use crate::manifest::{Edge, StageDeclaration, StageName};
use crate::store::{LockState, StoreError};

/// What `run` would do with each stage, in the order of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<PlannedStage>,
}

impl Plan {
    /// Plans the stages of `wanted`, which includes the upstream stages of each. Calls `hashed` with the number of bytes of each piece of
    /// an external file that is read; returning false cancels.
    ///
    /// # Errors
    /// Returns an error if the store or a file outside it cannot be read; [`StoreError::Interrupted`] if `hashed` returned false.
    pub fn new(
        decider: &Decider<'_>,
        graph: &Graph,
        wanted: &BTreeSet<StageName>,
        hashed: impl FnMut(u64) -> bool,
    ) -> Result<Self, StoreError> {
        let mut walk = Walk::new(decider, hashed);
        for name in graph.order().iter().filter(|name| wanted.contains(*name)) {
            decider.manifest.stages.get(name).map_or(Ok(()), |stage| walk.stage(stage))?;
        }
        Ok(Self { stages: walk.finish() })
    }

    /// Returns the stages that are not cached.
    pub fn stale(&self) -> BTreeSet<StageName> {
        self.stages.iter().filter(|stage| stage.state != State::Cached).map(|stage| stage.name.clone()).collect()
    }

    /// Returns the stages that would run, each after its upstream stages.
    pub fn tasks<'m>(&self, decider: &Decider<'m>) -> Vec<Task<'m>> {
        let stale = self.stages.iter().filter(|planned| planned.state != State::Cached);
        let task = |planned: &PlannedStage| {
            let stage = decider.manifest.stages.get(&planned.name)?;
            let scratch = decider.store.work.scratch_bytes(planned.key.map(Key::digest));
            Some(Task { stage, cost: planned.cost, disk: planned.disk, scratch })
        };
        stale.filter_map(task).collect()
    }
}

/// The state of a walk after some stages.
struct Walk<'a, F> {
    decider: &'a Decider<'a>,
    /// Called with the number of bytes of each hashed piece of an external file; false stops the walk.
    hashed: F,
    /// The outputs of cached stages.
    outputs: StageOutputs,
    /// The stages so far that are not cached, by recipe: stages with equal keys are built once.
    stale: BTreeMap<Recipe, Vec<Stale>>,
    /// The recipes of the stages that are not cached.
    recipes: BTreeMap<StageName, Recipe>,
    /// The sizes of the stages that are not cached.
    sizes: Sizes<'a>,
    /// Stages that wait for another process, and the stages downstream of them, which that process may build too.
    waiting: BTreeSet<StageName>,
    planned: Vec<PlannedStage>,
}

/// A stage that is not cached.
struct Stale {
    name: StageName,
    key: Option<Key>,
    /// The tree that each connected input port reads, if known.
    inputs: BTreeMap<String, Option<Digest>>,
}

impl Stale {
    /// Returns whether another stage with the same recipe may have the same key.
    fn may_equal(&self, other: &Self) -> bool {
        let fits = |(port, one): (&String, &Option<Digest>)| {
            let known = |other: &Option<Digest>| one.zip(*other).is_none_or(|(one, other)| one == other);
            other.inputs.get(port).is_some_and(known)
        };
        self.inputs.len() == other.inputs.len() && self.inputs.iter().all(fits)
    }
}

/// The result of planning one stage, except its state.
struct Found {
    key: Option<(Key, KeyRecord)>,
    state: State,
    reasons: Vec<Reason>,
    baseline: Option<Baseline>,
    /// The upstream stages whose output is not known yet.
    unknown: Vec<StageName>,
}

impl<'a, F: FnMut(u64) -> bool> Walk<'a, F> {
    fn new(decider: &'a Decider<'a>, hashed: F) -> Self {
        Self {
            decider,
            hashed,
            outputs: StageOutputs::new(),
            stale: BTreeMap::new(),
            recipes: BTreeMap::new(),
            sizes: Sizes::new(decider.manifest, decider.store),
            waiting: BTreeSet::new(),
            planned: Vec::new(),
        }
    }

    /// Plans a stage; its upstream stages must have been planned before.
    fn stage(&mut self, stage: &StageDeclaration) -> Result<(), StoreError> {
        let Found { key, state, reasons, baseline, unknown } = match self.known_inputs(stage) {
            Ok(inputs) => self.decide(stage, &inputs)?,
            Err(unknown) => self.plan_below_stale(stage, unknown)?,
        };
        let (mut cost, mut disk, mut estimate, mut no_estimate) = (stage.cost, 0, None, None);
        if let Some(recipe) = self.recipes.get(&stage.name) {
            let known = |_: &str, edge: &Edge| self.outputs.get(&edge.stage)?.get(&edge.output).copied();
            cost = self.cost(stage);
            let read = self.sizes.read(stage, self.decider.source_bytes(stage), known);
            match self.decider.estimate(stage, recipe, &cost, read)? {
                Ok(found) => estimate = Some(found),
                Err(why) => no_estimate = Some(why),
            }
            let build = baseline.as_ref().map(|build| (build, Recipe::of(&build.key_record) == *recipe));
            disk = self.sizes.add(stage, &cost, read, build, known);
        }
        let left = |reason: &Reason| if let Reason::Resumes { left, .. } = reason { *left } else { None };
        if let Some(left) = reasons.iter().find_map(left) {
            (estimate, no_estimate) = (Some(Estimate::left(left)), None);
        }
        let (name, kind) = (stage.name.clone(), stage.kind.name);
        let (key, key_record) = key.unzip();
        let compared_with = baseline.map(|baseline| baseline.build);
        self.planned.push(PlannedStage {
            name,
            kind,
            key,
            key_record,
            state,
            estimate,
            no_estimate,
            cost,
            disk,
            reasons,
            compared_with,
            unknown,
        });
        Ok(())
    }

    /// Returns the cost of a stale stage. Inputs that are not known yet add nothing, whatever they contained before.
    fn cost(&self, stage: &StageDeclaration) -> Cost {
        let tree = |port: &str| {
            let edge = stage.inputs.get(port)?;
            self.decider.store.objects.input(*self.outputs.get(&edge.stage)?.get(&edge.output)?).ok()
        };
        stage.cost_with(&tree)
    }

    /// Returns all stages. Of several stages that have or may have equal keys, each may run: which one is built first is a race. The same
    /// applies to stages whose outputs are damaged in the same objects.
    fn finish(mut self) -> Vec<PlannedStage> {
        let mut planned = std::mem::take(&mut self.planned);
        let damaged: Vec<_> = planned.iter().map(|planned| (planned.name.clone(), damage(planned))).collect();
        let will_run = planned.iter_mut().filter(|planned| planned.state == State::WillRun);
        for planned in will_run.filter(|planned| !self.decider.forced.contains(&planned.name)) {
            if let Some(reason) = shared_damage(planned, &damaged).or_else(|| self.equal_key(&planned.name)) {
                planned.state = State::MayRun;
                planned.reasons.push(reason);
            }
        }
        planned
    }

    /// Returns the reason that another stage has, or may have, the key of this one.
    fn equal_key(&self, stage: &StageName) -> Option<Reason> {
        let same_recipe = self.stale.get(self.recipes.get(stage)?)?;
        let this = same_recipe.iter().find(|one| one.name == *stage)?;
        let others = || same_recipe.iter().filter(|other| other.name != *stage);
        let same = others().find(|other| this.key.is_some() && other.key == this.key);
        let maybe = || others().find(|other| (this.key.is_none() || other.key.is_none()) && this.may_equal(other));
        match same {
            Some(same) => Some(Reason::SameKey { stage: same.name.clone() }),
            None => maybe().map(|other| Reason::MaybeSameKey { stage: other.name.clone() }),
        }
    }

    /// Returns the content of each input port, or the stages whose output is not known yet.
    fn known_inputs(&self, stage: &StageDeclaration) -> Result<BTreeMap<String, Digest>, Vec<StageName>> {
        let mut inputs = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for (port, edge) in &stage.inputs {
            match self.outputs.get(&edge.stage).and_then(|trees| trees.get(&edge.output)) {
                Some(digest) => drop(inputs.insert(port.clone(), *digest)),
                None => drop(unknown.insert(edge.stage.clone())),
            }
        }
        if unknown.is_empty() { Ok(inputs) } else { Err(unknown.into_iter().collect()) }
    }

    /// Decides on a stage whose inputs are known.
    fn decide(&mut self, stage: &StageDeclaration, inputs: &BTreeMap<String, Digest>) -> Result<Found, StoreError> {
        let found = |key, state, reasons, baseline| Found { key, state, reasons, baseline, unknown: Vec::new() };
        let key = match self.decider.key(stage, inputs, &mut self.hashed)? {
            Ok(key) => key,
            Err(missing) => {
                self.add_stale(stage, None, Recipe::of(&self.decider.own_record(stage)));
                return Ok(found(None, State::WillRun, missing, None));
            }
        };
        let lookup = self.decider.store.builds.lookup(key.key.digest())?;
        Ok(match self.decider.decide(stage, key, lookup)? {
            Decision::Cached(key, hit) => {
                self.outputs.insert(stage.name.clone(), hit.record.outputs);
                let reasons = key.sources_missing.then_some(Reason::SourcesAbsent).into_iter().collect();
                found(Some((key.key, key.key_record)), State::Cached, reasons, None)
            }
            Decision::Run(key, mut reasons, baseline) => {
                let held = self.decider.store.work.lock_state(key.key.digest())?;
                // A forced stage waits too, and then runs; in both cases the other process may build the downstream stages.
                let waits = held != LockState::Free && !self.decider.forced.contains(&stage.name);
                if let LockState::Held(holder) = held {
                    self.waiting.insert(stage.name.clone());
                    reasons.insert(0, Reason::Held { holder });
                }
                self.add_stale(stage, Some(key.key), Recipe::of(&key.key_record));
                let state = if waits { State::Waiting } else { State::WillRun };
                found(Some((key.key, key.key_record)), state, reasons, baseline)
            }
        })
    }

    /// Decides on a stage downstream of a stale stage, by its own settings: it will or may run.
    fn plan_below_stale(&mut self, stage: &StageDeclaration, unknown: Vec<StageName>) -> Result<Found, StoreError> {
        let own = self.decider.own_record(stage);
        let recipe = Recipe::of(&own);
        let forced = self.decider.forced.contains(&stage.name);
        let held: Vec<_> = unknown.iter().filter(|upstream| self.waiting.contains(*upstream)).cloned().collect();
        if !held.is_empty() {
            self.waiting.insert(stage.name.clone());
        }
        let built = self.decider.may_have_built(&recipe)?;
        let state = if forced || (held.is_empty() && !built) { State::WillRun } else { State::MayRun };
        self.add_stale(stage, None, recipe);
        let (mut reasons, baseline) = self.own_reasons(stage, &own, built)?;
        if !forced && !held.is_empty() {
            reasons.push(Reason::UpstreamHeld { stages: held });
        }
        if built && !forced {
            reasons.push(Reason::Upstream { stages: unknown.clone() });
        }
        Ok(Found { key: None, state, reasons, baseline, unknown })
    }

    fn add_stale(&mut self, stage: &StageDeclaration, key: Option<Key>, recipe: Recipe) {
        let read = |edge: &Edge| self.outputs.get(&edge.stage)?.get(&edge.output).copied();
        let inputs = stage.inputs.iter().map(|(port, edge)| (port.clone(), read(edge))).collect();
        self.stale.entry(recipe.clone()).or_default().push(Stale { name: stage.name.clone(), key, inputs });
        self.recipes.insert(stage.name.clone(), recipe);
    }

    /// Returns the differences between the stage itself and the build that it is compared with; `built` says whether a build with its
    /// recipe may be in the store, under any name.
    fn own_reasons(
        &self,
        stage: &StageDeclaration,
        own: &KeyRecord,
        built: bool,
    ) -> Result<(Vec<Reason>, Option<Baseline>), StoreError> {
        let mut reasons = Vec::new();
        if self.decider.forced.contains(&stage.name) {
            reasons.push(Reason::Forced);
        }
        let baseline = self.decider.baseline(stage, |old| recipe_differences(old, own).len())?;
        match &baseline {
            Some(old) if old.is_own || !built => {
                let differences = recipe_differences(&old.key_record, own);
                reasons.extend(old.reasons(self.decider.manifest, stage, &differences));
            }
            None if !built => reasons.push(Reason::NeverBuilt { closest: None, differences: Vec::new() }),
            _ => {}
        }
        if reasons.is_empty() && !built {
            // A run used it, but its record is no longer in the store.
            reasons.push(Reason::Removed);
        }
        Ok((reasons, baseline))
    }
}

/// Returns the reason that another stage's output is damaged in an object that this stage's output also contains.
fn shared_damage(planned: &PlannedStage, damaged: &[(StageName, BTreeSet<String>)]) -> Option<Reason> {
    let own = damage(planned);
    let others = || damaged.iter().filter(|(name, _)| *name != planned.name);
    let shared = (!own.is_empty()).then(|| others().find(|(_, other)| !own.is_disjoint(other))).flatten();
    shared.map(|(stage, _)| Reason::SharedDamage { stage: stage.clone() })
}

/// Returns the damaged objects of a stage's output.
fn damage(planned: &PlannedStage) -> BTreeSet<String> {
    let what = |reason: &Reason| match reason {
        Reason::Damaged { what } => Some(what.clone()),
        _ => None,
    };
    planned.reasons.iter().filter_map(what).collect()
}
