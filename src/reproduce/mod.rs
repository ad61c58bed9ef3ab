//! Floor 4: a locked run done again in a store that knows none of its outputs, and compared stage by stage.
//!
//! | module | noun |
//! |---|---|
//! | [`verdict`] | what the comparison says of one stage |

pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

pub use verdict::{Cause, Verdict};

use crate::events::{Event, Renderer, Stamped};
use crate::graph::Graph;
use crate::manifest::{Manifest, StageName};
use crate::report::RunLock;
use crate::run::{Given, Outcome};
use crate::store::{Store, StoreError};

/// Why a stage that the command line leaves out is not attempted.
pub const NOT_ASKED: &str = "not asked for";

/// What a reproduction proves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reproduction {
    /// By stage, in the lock's order.
    pub stages: Vec<(String, Verdict)>,
    /// Stages of the manifest of which the lock says nothing.
    pub not_locked: Vec<String>,
    /// The first stage that differs although it read what the lock says; else the first that differs.
    pub first_divergent: Option<String>,
}

impl Reproduction {
    /// Compares what a run gave with a lock. `why` says why a stage has no output; `asked` are the stages to judge.
    pub fn of(
        lock: &RunLock,
        manifest: &Manifest,
        graph: &Graph,
        outcome: &Outcome,
        why: &BTreeMap<String, String>,
        asked: &BTreeSet<StageName>,
    ) -> Self {
        let mut stages: Vec<(String, Verdict)> = Vec::new();
        let mut tolerated = BTreeSet::new();
        for locked in &lock.stages {
            let name = locked.name.parse::<StageName>().ok().filter(|name| asked.contains(name));
            let found = name.as_ref().and_then(|name| outcome.stages.get(name));
            let verdict = match (&name, found) {
                (None, _) => Verdict::NotAttempted { because: NOT_ASKED.to_owned() },
                (Some(_), None) => {
                    let because = why.get(&locked.name).cloned();
                    Verdict::NotAttempted {
                        because: because.unwrap_or_else(|| "the manifest has no such stage".to_owned()),
                    }
                }
                (Some(name), Some(found)) => {
                    let inputs = manifest.stages.get(name).map(|stage| &stage.inputs);
                    let below = inputs.into_iter().flatten().filter(|(_, edge)| tolerated.contains(&edge.stage));
                    let verdict = Verdict::of(locked, found, &below.map(|(port, _)| port.clone()).collect());
                    if matches!(verdict, Verdict::Equal { .. } | Verdict::NotComparable) {
                        tolerated.insert(name.clone());
                    }
                    verdict
                }
            };
            stages.push((locked.name.clone(), verdict));
        }
        let different = |(name, verdict): &(String, Verdict)| match verdict {
            Verdict::Different { causes, .. } => {
                let below = causes.iter().any(|cause| matches!(cause, Cause::Input { .. }));
                Some((below, name.clone()))
            }
            _ => None,
        };
        let different: Vec<_> = stages.iter().filter_map(different).collect();
        let root = different.iter().find(|(below, _)| !below).or(different.first());
        let first_divergent = root.map(|(_, name)| name.clone());
        let not_locked = graph.order().iter().filter(|stage| lock.stage(stage.as_str()).is_none());
        Self { not_locked: not_locked.map(ToString::to_string).collect(), stages, first_divergent }
    }

    /// Whether every stage that was asked for is in the lock, was run, and holds.
    pub fn holds(&self, asked: &BTreeSet<StageName>) -> bool {
        let verdict = |stage: &StageName| self.stages.iter().find(|(name, _)| name == stage.as_str());
        asked.iter().all(|stage| verdict(stage).is_some_and(|(_, verdict)| verdict.holds()))
    }
}

/// Copies the locked outputs of these stages from another store, for a stage that is to be reproduced alone. Their builds are
/// not recorded: what has the key of one of them is built again. What each stage gave, by port.
///
/// # Errors
/// The first stage whose locked output the other store does not have whole.
pub fn provide(
    lock: &RunLock,
    stages: &BTreeSet<StageName>,
    from: &Store,
    to: &Store,
) -> Result<Result<Given, StageName>, StoreError> {
    let mut given = Given::new();
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
        given.insert(name.clone(), trees);
    }
    Ok(Ok(given))
}

/// What contradicts itself in a lock, if anything: its manifest says of a stage what the stage's own entry does not.
pub fn contradiction(lock: &RunLock, manifest: &Manifest) -> Option<String> {
    lock.stages.iter().find_map(|locked| {
        let name = &locked.name;
        let Some(stage) = manifest.stages.values().find(|stage| stage.name.as_str() == name) else {
            return Some(format!("the lock has a stage '{name}' that its manifest has not"));
        };
        if stage.kind.name != locked.kind {
            return Some(format!(
                "stage '{name}' is of kind {} in the lock's manifest, not {}",
                stage.kind.name, locked.kind
            ));
        }
        stage.inputs.iter().find_map(|(port, edge)| {
            let above = edge.stage.as_str();
            let gave = lock.stage(above).and_then(|above| above.outputs.get(&edge.output));
            let Some(gave) = gave else {
                return Some(format!("'{name}' reads {above}.{}, of which the lock says nothing", edge.output));
            };
            let read = locked.inputs.get(port);
            (read != Some(&gave.tree))
                .then(|| format!("'{name}' did not read on its port '{port}' what {above}.{} gave", edge.output))
        })
    })
}

/// Remembers why stages have no output.
#[derive(Debug, Clone, Default)]
pub struct Reasons(Arc<Mutex<BTreeMap<String, String>>>);

impl Reasons {
    /// Those so far, by stage.
    pub fn get(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Renderer for Reasons {
    fn event(&mut self, stamped: &Stamped) -> io::Result<()> {
        let (stage, why) = match &stamped.event {
            Event::StageFailed { stage, message, .. } => (stage, message),
            Event::StageSkipped { stage, because } => (stage, because),
            _ => return Ok(()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stage.clone(), why.clone());
        Ok(())
    }
}
