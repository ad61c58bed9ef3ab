//! Architecture layer 4: runs a locked manifest again in an empty store and compares every stage.
//!
//! | module | contents |
//! |---|---|
//! | [`stage`] | the reproduction of one stage: identical, equal, different |

pub mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

pub use stage::{Cause, StageReproduction};

use crate::events::{Event, Renderer, Stamped};
use crate::graph::Graph;
use crate::manifest::{Manifest, StageName};
use crate::plan::StageOutputs;
use crate::report::RunLock;
use crate::run::Outcome;
use crate::store::{Store, StoreError};

/// The reason for not attempting a stage that was not requested on the command line.
pub const NOT_REQUESTED: &str = "not requested";

/// The result of a reproduction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reproduction {
    /// The verdict of each stage, in the order of the lock.
    pub stages: Vec<(String, StageReproduction)>,
    /// Stages of the manifest that are not in the lock.
    pub not_locked: Vec<String>,
    /// The first stage that differs although its inputs do not; otherwise, the first stage that differs.
    pub first_divergent: Option<String>,
}

impl Reproduction {
    /// Compares the outcome of a run with a lock. `reasons` explains why stages have no output; `requested` are the stages to compare.
    pub fn new(
        lock: &RunLock,
        manifest: &Manifest,
        graph: &Graph,
        outcome: &Outcome,
        reasons: &BTreeMap<String, String>,
        requested: &BTreeSet<StageName>,
    ) -> Self {
        let mut stages: Vec<(String, StageReproduction)> = Vec::new();
        let mut tolerated = BTreeSet::new();
        for locked in &lock.stages {
            let name = locked.name.parse::<StageName>().ok().filter(|name| requested.contains(name));
            let found = name.as_ref().and_then(|name| outcome.stages.get(name));
            let verdict = match (&name, found) {
                (None, _) => StageReproduction::NotAttempted { because: NOT_REQUESTED.to_owned() },
                (Some(_), None) => {
                    let because = reasons.get(&locked.name).cloned();
                    StageReproduction::NotAttempted {
                        because: because.unwrap_or_else(|| "the manifest has no such stage".to_owned()),
                    }
                }
                (Some(name), Some(found)) => {
                    let inputs = manifest.stages.get(name).map(|stage| &stage.inputs);
                    let downstream = inputs.into_iter().flatten().filter(|(_, edge)| tolerated.contains(&edge.stage));
                    let verdict =
                        StageReproduction::of(locked, found, &downstream.map(|(port, _)| port.clone()).collect());
                    if matches!(verdict, StageReproduction::Equal { .. } | StageReproduction::NotComparable) {
                        tolerated.insert(name.clone());
                    }
                    verdict
                }
            };
            stages.push((locked.name.clone(), verdict));
        }
        let different = |(name, verdict): &(String, StageReproduction)| match verdict {
            StageReproduction::Different { causes, .. } => {
                let is_downstream = causes.iter().any(|cause| matches!(cause, Cause::Input { .. }));
                Some((is_downstream, name.clone()))
            }
            _ => None,
        };
        let different: Vec<_> = stages.iter().filter_map(different).collect();
        let root = different.iter().find(|(is_downstream, _)| !is_downstream).or(different.first());
        let first_divergent = root.map(|(_, name)| name.clone());
        let locked: BTreeSet<_> = lock.stages.iter().map(|stage| stage.name.as_str()).collect();
        let not_locked = graph.order().iter().filter(|stage| !locked.contains(stage.as_str()));
        Self { not_locked: not_locked.map(ToString::to_string).collect(), stages, first_divergent }
    }

    /// Returns whether every requested stage is in the lock, was run, and is reproduced.
    pub fn holds(&self, requested: &BTreeSet<StageName>) -> bool {
        let held = self.stages.iter().filter(|(_, verdict)| verdict.holds()).map(|(name, _)| name.as_str());
        let held: BTreeSet<_> = held.collect();
        requested.iter().all(|stage| held.contains(stage.as_str()))
    }
}

/// Copies the locked outputs of these stages from another store, for stages that are reproduced alone, and returns them. Does not record
/// their builds, so that a stage with an equal key is still built.
///
/// # Errors
/// Returns the first stage whose locked output is missing or damaged in the other store.
pub fn provide(
    lock: &RunLock,
    stages: &BTreeSet<StageName>,
    from: &Store,
    to: &Store,
) -> Result<Result<StageOutputs, StageName>, StoreError> {
    let mut provided = StageOutputs::new();
    for name in stages {
        let Some(locked) = lock.stage(name.as_str()) else { return Ok(Err(name.clone())) };
        let trees = locked.trees();
        for tree in trees.values() {
            match from.objects.check(*tree) {
                Ok(damage) if damage.is_empty() => to.copy_tree(from, *tree)?,
                Ok(_) | Err(StoreError::Damaged(_)) => return Ok(Err(name.clone())),
                Err(error) => return Err(error),
            }
        }
        provided.insert(name.clone(), trees);
    }
    Ok(Ok(provided))
}

/// Returns an inconsistency between a lock and its manifest, if any.
pub fn contradiction(lock: &RunLock, manifest: &Manifest) -> Option<String> {
    let stages: BTreeMap<_, _> = lock.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect();
    lock.stages.iter().find_map(|locked| {
        let name = &locked.name;
        let Some(stage) = manifest.stages.get(name.as_str()) else {
            return Some(format!("stage '{name}' is not in its manifest"));
        };
        if stage.kind.name != locked.kind {
            return Some(format!(
                "stage '{name}' has kind {}, but kind {} in its manifest",
                locked.kind, stage.kind.name
            ));
        }
        stage.inputs.iter().find_map(|(port, edge)| {
            let (upstream, output) = (edge.stage.as_str(), &edge.output);
            let Some(written) = stages.get(upstream).and_then(|stage| stage.outputs.get(output)) else {
                return Some(format!("'{name}' reads {upstream}.{output}, which is not in the lock"));
            };
            (locked.inputs.get(port) != Some(&written.tree))
                .then(|| format!("input '{port}' of '{name}' is not the output of {upstream}.{output}"))
        })
    })
}

/// A renderer that collects the reasons why stages have no output.
#[derive(Debug, Clone, Default)]
pub struct Reasons(Arc<Mutex<BTreeMap<String, String>>>);

impl Reasons {
    /// Returns the reasons so far, by stage.
    pub fn get(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Renderer for Reasons {
    fn event(&mut self, stamped: &Stamped) -> io::Result<()> {
        let (stage, reason) = match &stamped.event {
            Event::StageFailed { stage, message, .. } => (stage, message),
            Event::StageSkipped { stage, because } => (stage, because),
            _ => return Ok(()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.clone(), reason.clone());
        Ok(())
    }
}
