//! The output that a command is asked about: `stage`, or `stage.output` for one port.

use std::collections::BTreeSet;

use contract::{Digest, InputTree, PortType};

use super::CommandError;
use super::project::Project;
use crate::manifest::StageName;
use crate::manifest::did_you_mean;
use crate::plan::{Decider, Reason, State};
use crate::store::{Lookup, Store, StoreError};

/// What a stage gave.
pub(super) struct StageOutput {
    pub(super) stage: StageName,
    pub(super) kind: &'static str,
    /// The key of the build.
    pub(super) key: Digest,
    /// Its ports in the order in which the kind declares them, the wanted ones only.
    pub(super) ports: Vec<PortOutput>,
    /// Why the build is not of the manifest and its inputs as they are now: `will run: learning_rate: 5e-4 -> 6e-4`.
    pub(super) stale: Option<String>,
}

/// What one port holds.
pub(super) struct PortOutput {
    pub(super) name: String,
    pub(super) ty: PortType,
    pub(super) tree: InputTree,
}

impl StageOutput {
    /// The output of the manifest as it is, else that of the stage's last build.
    pub(super) fn find(project: &Project, store: &Store, place: &str) -> Result<Self, CommandError> {
        let (name, port) = match place.split_once('.') {
            Some((name, port)) => (name, Some(port)),
            None => (place, None),
        };
        let name = project.stage(name)?;
        let stage = &project.manifest.stages[&name];
        let ports: Vec<_> =
            stage.ports.outputs.iter().filter(|output| port.is_none_or(|port| port == output.name)).collect();
        if ports.is_empty() {
            let names: Vec<_> = stage.ports.outputs.iter().map(|output| output.name.as_ref()).collect();
            let port = port.unwrap_or_default();
            let hint = match did_you_mean(port, names.iter().copied()) {
                Some(near) => format!("did you mean '{name}.{near}'?"),
                None => format!("its outputs are {}", names.join(", ")),
            };
            return Err(CommandError::usage(format!("stage '{name}' has no output '{port}'")).hint(hint));
        }
        let (key, stale) = build(project, store, &name)?;
        let outputs = match store.lookup(key)? {
            Lookup::Hit(hit) => hit.record.outputs,
            Lookup::Damaged(damage) => {
                let first = damage.into_iter().next();
                return Err(
                    first.map_or_else(|| never_built(project, &name), |damage| StoreError::Damaged(damage).into())
                );
            }
            Lookup::Miss => return Err(never_built(project, &name)),
        };
        let ports = ports
            .into_iter()
            .filter_map(|port| outputs.get(port.name.as_ref()).map(|digest| (port, *digest)))
            .map(|(port, digest)| {
                Ok(PortOutput { name: port.name.to_string(), ty: port.ty, tree: store.tree(digest)? })
            })
            .collect::<Result<_, CommandError>>()?;
        Ok(Self { stage: name.clone(), kind: stage.kind.name, key, ports, stale })
    }
}

/// The key to look at, and why it is not the current one where it is not.
fn build(project: &Project, store: &Store, name: &StageName) -> Result<(Digest, Option<String>), CommandError> {
    let forced = BTreeSet::new();
    let plan = project.plan_for(&Decider::new(&project.manifest, store, &forced), name)?;
    let planned = plan.stages.iter().find(|stage| stage.name == *name);
    if let Some(key) = planned.filter(|stage| stage.state == State::Cached).and_then(|stage| stage.key) {
        return Ok((key.digest(), None));
    }
    let stale = planned.map(|stage| {
        let reasons: Vec<_> = stage.reasons.iter().map(Reason::text).collect();
        format!("{}: {}", stage.state.verb(), reasons.join("; "))
    });
    match store.last_build(&project.manifest.name, name.as_str())? {
        Some(last) => Ok((last.key, stale)),
        None => Err(never_built(project, name)),
    }
}

fn never_built(project: &Project, name: &StageName) -> CommandError {
    CommandError::Failed { message: format!("stage '{name}' has no output yet"), hint: Some(run_hint(project)) }
}

fn run_hint(project: &Project) -> String {
    format!("pipeline run {}", project.manifest.path.display())
}
