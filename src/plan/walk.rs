//! The walk over the graph that makes a plan.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Cost, Digest};

use super::baseline::Baseline;
use super::estimate::Estimate;
use super::recipe::{Recipe, own_differences, own_record};
use super::{Decider, Decision, PlannedStage, Reason, State, fit};
use crate::key::{Key, KeyRecord};
use crate::manifest::{Edge, StageDeclaration, StageName};
use crate::store::{LockState, StoreError};

/// The state of a walk after some stages.
pub(super) struct Walk<'a, F> {
    decider: &'a Decider<'a>,
    /// Called with the bytes of each piece of an external file that is hashed; false stops the walk.
    hashed: F,
    /// The outputs of cached stages.
    outputs: BTreeMap<StageName, BTreeMap<String, Digest>>,
    /// The stages so far that are not cached, by recipe: those with equal keys are built once.
    stale: BTreeMap<Recipe, Vec<Stale>>,
    /// The recipes of these.
    recipes: BTreeMap<StageName, Recipe>,
    /// What each of these will write, by estimate.
    written: BTreeMap<StageName, Written>,
    /// Stages that wait for another process, and those downstream of them, which that process may build too.
    waiting: BTreeSet<StageName>,
    planned: Vec<PlannedStage>,
}

/// A stage that is not cached.
struct Stale {
    name: StageName,
    key: Option<Key>,
    /// What each connected input port reads, where that is known.
    inputs: BTreeMap<String, Option<Digest>>,
}

impl Stale {
    /// Whether another stage with this one's recipe may have its key.
    fn may_equal(&self, other: &Self) -> bool {
        let fits = |(port, one): (&String, &Option<Digest>)| {
            let known = |other: &Option<Digest>| one.zip(*other).is_none_or(|(one, other)| one == other);
            other.inputs.get(port).is_some_and(known)
        };
        self.inputs.len() == other.inputs.len() && self.inputs.iter().all(fits)
    }
}

/// Bytes that a stale stage will write.
enum Written {
    /// To all ports together.
    Together(u64),
    /// To each port.
    Ports(BTreeMap<String, u64>),
}

/// What a walk finds out about one stage.
struct Found {
    known: Option<(Key, KeyRecord)>,
    state: State,
    reasons: Vec<Reason>,
    baseline: Option<Baseline>,
    /// The upstream stages whose output is not known yet.
    unknown: Vec<StageName>,
}

impl<'a, F: FnMut(u64) -> bool> Walk<'a, F> {
    pub(super) fn new(decider: &'a Decider<'a>, hashed: F) -> Self {
        Self {
            decider,
            hashed,
            outputs: BTreeMap::new(),
            stale: BTreeMap::new(),
            recipes: BTreeMap::new(),
            written: BTreeMap::new(),
            waiting: BTreeSet::new(),
            planned: Vec::new(),
        }
    }

    /// Plans one stage; its upstream stages were planned before.
    pub(super) fn stage(&mut self, stage: &StageDeclaration) -> Result<(), StoreError> {
        let Found { known, state, reasons, baseline, unknown } = match self.known_inputs(stage) {
            Ok(inputs) => self.decide(stage, &inputs)?,
            Err(unknown) => self.below_stale(stage, unknown)?,
        };
        let cost = if state == State::Cached { stage.cost } else { self.cost(stage) };
        let (mut estimate, mut no_estimate) = (None, None);
        if let Some(recipe) = self.recipes.get(&stage.name) {
            let read = self.read(stage);
            match self.decider.estimate(stage, recipe, &cost, read)? {
                Ok(found) => estimate = Some(found),
                Err(why) => no_estimate = Some(why),
            }
            let written = read.and_then(|read| self.writes(stage, &cost, read, baseline.as_ref(), recipe));
            self.written.extend(written.map(|written| (stage.name.clone(), written)));
        }
        let left = |reason: &Reason| if let Reason::Resumes { left, .. } = reason { *left } else { None };
        if let Some(left) = reasons.iter().find_map(left) {
            (estimate, no_estimate) = (Some(Estimate::left(left)), None);
        }
        let (name, kind) = (stage.name.clone(), stage.kind.name);
        let (key, record) = known.unzip();
        self.planned.push(PlannedStage {
            name,
            kind,
            key,
            record,
            state,
            estimate,
            no_estimate,
            cost,
            reasons,
            compared_with: baseline.map(|baseline| baseline.build),
            unknown,
        });
        Ok(())
    }

    /// What a stale stage will cost. An input that is not known yet says nothing, whatever it held before.
    fn cost(&self, stage: &StageDeclaration) -> Cost {
        let tree = |port: &str| {
            let edge = stage.inputs.get(port)?;
            self.decider.store.objects.input(*self.outputs.get(&edge.stage)?.get(&edge.output)?).ok()
        };
        stage.cost_with(&tree)
    }

    /// Bytes that a stale stage reads: as many as there are of what is there, and by estimate of what is not; `None` where
    /// something is not known.
    fn read(&self, stage: &StageDeclaration) -> Option<u64> {
        let (mut read, mut counted) = (self.decider.source_bytes(stage)?, BTreeSet::new());
        for edge in stage.inputs.values() {
            let bytes = match self.outputs.get(&edge.stage).and_then(|trees| trees.get(&edge.output)) {
                Some(digest) => self.decider.store.objects.tree(*digest).ok()?.size(),
                None => match self.written.get(&edge.stage)? {
                    Written::Ports(ports) => *ports.get(&edge.output)?,
                    // How much of it each port takes is not known: it counts once.
                    Written::Together(bytes) if counted.insert(&edge.stage) => *bytes,
                    Written::Together(_) => 0,
                },
            };
            read = read.saturating_add(bytes);
        }
        Some(read)
    }

    /// What a stale stage writes that reads so many bytes: as much for its input as the build that it is compared with did,
    /// where that is known; else what its settings or the size of its input tell. `None` for data made from nothing.
    fn writes(
        &self,
        stage: &StageDeclaration,
        cost: &Cost,
        read: u64,
        build: Option<&Baseline>,
        own: &Recipe,
    ) -> Option<Written> {
        let ratio = build.and_then(|build| match (read, build.read?) {
            (0, 0) if Recipe::of(&build.record) == *own => Some(1.0),
            (now, then) if now > 0 && then > 0 && fit::produces_data(stage) => Some(now as f64 / then as f64),
            // Models and reports do not grow with what they are made from.
            (_, then) if then > 0 => Some(1.0),
            _ => None,
        });
        let size = |tree: &Digest| self.decider.store.objects.tree(*tree).ok().map(|tree| tree.size());
        let scaled = ratio.zip(build).and_then(|(ratio, build)| {
            let scale = |bytes: u64| (bytes as f64 * ratio) as u64;
            build.outputs.iter().map(|(port, tree)| Some((port.clone(), scale(size(tree)?)))).collect()
        });
        scaled.map(Written::Ports).or_else(|| match fit::writes(stage, cost, read) {
            0 if fit::produces_data(stage) => None,
            bytes => Some(Written::Together(bytes)),
        })
    }

    /// Returns all stages. Of those that have or may have equal keys, each may run: which one builds is a race. The same holds
    /// for stages whose outputs are damaged in the same objects.
    pub(super) fn finish(mut self) -> Vec<PlannedStage> {
        let mut planned = std::mem::take(&mut self.planned);
        let damaged: Vec<_> = planned.iter().map(|planned| (planned.name.clone(), damage(planned))).collect();
        let will_run = planned.iter_mut().filter(|planned| planned.state == State::WillRun);
        for planned in will_run.filter(|planned| !self.decider.forced.contains(&planned.name)) {
            if let Some(reason) = shared_damage(planned, &damaged).or_else(|| self.twin(&planned.name)) {
                planned.state = State::MayRun;
                planned.reasons.push(reason);
            }
        }
        planned
    }

    /// Another stage that has, or may have, the key of this one.
    fn twin(&self, stage: &StageName) -> Option<Reason> {
        let alike = self.stale.get(self.recipes.get(stage)?)?;
        let this = alike.iter().find(|one| one.name == *stage)?;
        let others = || alike.iter().filter(|other| other.name != *stage);
        let same = others().find(|other| this.key.is_some() && other.key == this.key);
        let maybe = || others().find(|other| (this.key.is_none() || other.key.is_none()) && this.may_equal(other));
        match same {
            Some(same) => Some(Reason::SameKey { stage: same.name.clone() }),
            None => maybe().map(|other| Reason::MaybeSameKey { stage: other.name.clone() }),
        }
    }

    /// The content of each input port, or the stages whose output is not known yet.
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

    /// Decides a stage whose inputs are known.
    fn decide(&mut self, stage: &StageDeclaration, inputs: &BTreeMap<String, Digest>) -> Result<Found, StoreError> {
        let found = |known, state, reasons, baseline| Found { known, state, reasons, baseline, unknown: Vec::new() };
        let keyed = match self.decider.key(stage, inputs, &mut self.hashed)? {
            Ok(keyed) => keyed,
            Err(missing) => {
                self.is_stale(stage, None, Recipe::of(&own_record(self.decider, stage)));
                return Ok(found(None, State::WillRun, missing, None));
            }
        };
        Ok(match self.decider.decide(stage, keyed)? {
            Decision::Cached(keyed, hit) => {
                self.outputs.insert(stage.name.clone(), hit.record.outputs);
                let reasons = keyed.absent.then_some(Reason::SourcesAbsent).into_iter().collect();
                found(Some((keyed.key, keyed.record)), State::Cached, reasons, None)
            }
            Decision::Run(keyed, mut reasons, baseline) => {
                let held = self.decider.store.work.lock_state(keyed.key.digest())?;
                // A forced stage waits too, and runs then; either way the other process may go on to the stages downstream.
                let waits = held != LockState::Free && !self.decider.forced.contains(&stage.name);
                if let LockState::Held(holder) = held {
                    self.waiting.insert(stage.name.clone());
                    reasons.insert(0, Reason::Held { holder });
                }
                self.is_stale(stage, Some(keyed.key), Recipe::of(&keyed.record));
                let state = if waits { State::Waiting } else { State::WillRun };
                found(Some((keyed.key, keyed.record)), state, reasons, baseline)
            }
        })
    }

    /// Decides a stage downstream of one that is not cached, by its own settings: it will or may run.
    fn below_stale(&mut self, stage: &StageDeclaration, unknown: Vec<StageName>) -> Result<Found, StoreError> {
        let own = own_record(self.decider, stage);
        let recipe = Recipe::of(&own);
        let forced = self.decider.forced.contains(&stage.name);
        let held: Vec<_> = unknown.iter().filter(|above| self.waiting.contains(*above)).cloned().collect();
        if !held.is_empty() {
            self.waiting.insert(stage.name.clone());
        }
        let built = self.decider.has_built(&recipe)?;
        let state = if forced || (held.is_empty() && !built) { State::WillRun } else { State::MayRun };
        self.is_stale(stage, None, recipe);
        let (mut reasons, baseline) = self.own_reasons(stage, &own, built)?;
        if !forced && !held.is_empty() {
            reasons.push(Reason::UpstreamHeld { stages: held });
        }
        if built && !forced {
            reasons.push(Reason::Upstream { stages: unknown.clone() });
        }
        Ok(Found { known: None, state, reasons, baseline, unknown })
    }

    fn is_stale(&mut self, stage: &StageDeclaration, key: Option<Key>, recipe: Recipe) {
        let read = |edge: &Edge| self.outputs.get(&edge.stage)?.get(&edge.output).copied();
        let inputs = stage.inputs.iter().map(|(port, edge)| (port.clone(), read(edge))).collect();
        self.stale.entry(recipe.clone()).or_default().push(Stale { name: stage.name.clone(), key, inputs });
        self.recipes.insert(stage.name.clone(), recipe);
    }

    /// What differs in a stage itself from the build that it is compared with; `built` says that a build with its recipe is
    /// on record, if only by another name.
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
        let baseline = self.decider.baseline(stage, |old| own_differences(old, own).len())?;
        let manifest = self.decider.manifest;
        match &baseline {
            Some(old) if old.is_own || !built => {
                reasons.extend(old.reasons(manifest, stage, &own_differences(&old.record, own)));
            }
            None if !built => reasons.push(Reason::NeverBuilt { closest: None, differences: Vec::new() }),
            _ => {}
        }
        if reasons.is_empty() && !built {
            // A run used it, and the store has no record of it any more.
            reasons.push(Reason::Removed);
        }
        Ok((reasons, baseline))
    }
}

/// Another stage whose output is damaged in an object that this one's output has too.
fn shared_damage(planned: &PlannedStage, damaged: &[(StageName, BTreeSet<String>)]) -> Option<Reason> {
    let own = damage(planned);
    let others = || damaged.iter().filter(|(name, _)| *name != planned.name);
    let shared = (!own.is_empty()).then(|| others().find(|(_, other)| !own.is_disjoint(other))).flatten();
    shared.map(|(stage, _)| Reason::SharedDamage { stage: stage.clone() })
}

/// The damaged objects of a stage's output.
fn damage(planned: &PlannedStage) -> BTreeSet<String> {
    let what = |reason: &Reason| match reason {
        Reason::Damaged { what } => Some(what.clone()),
        _ => None,
    };
    planned.reasons.iter().filter_map(what).collect()
}
