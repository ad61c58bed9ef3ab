//! The output of a stage that a command reads: `stage`, or `stage.output` for one port.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Digest, InputTree, PortType};

use super::CommandError;
use super::project::Project;
use crate::manifest::StageName;
use crate::plan::{Decider, PlannedStage, State, reason_lines};
use crate::store::{Lookup, Store, StoreError};

/// The output of a stage.
pub(super) struct StageOutput {
    pub(super) stage: StageName,
    pub(super) kind: &'static str,
    /// The key of the build.
    pub(super) key: Digest,
    /// The selected ports, in the order in which the kind declares them.
    pub(super) ports: Vec<PortOutput>,
    /// See [`ReadableBuild::stale`].
    pub(super) stale: Option<String>,
}

/// The output of one port.
pub(super) struct PortOutput {
    pub(super) name: String,
    pub(super) ty: PortType,
    pub(super) tree: InputTree,
}

impl StageOutput {
    /// Returns the output for the current manifest, else that of the stage's last build.
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
            let port = port.unwrap_or_default();
            let error = CommandError::usage(format!("stage '{name}' has no output '{port}'"));
            return Err(error.suggest(
                port,
                "its outputs are",
                stage.ports.outputs.iter().map(|output| output.name.as_ref()),
            ));
        }
        let forced = BTreeSet::new();
        let plan = project.plan_for(&Decider::new(&project.manifest, store, &forced), &name)?;
        let planned = plan.stages.iter().find(|stage| stage.name == name);
        let shown = planned.map(|planned| build_of(project, store, planned)).transpose()?.flatten();
        let Some(ReadableBuild { key, outputs, stale }) = shown else {
            let error = CommandError::failed(format!("stage '{name}' has no output yet"));
            return Err(error.hint(project.run_command()));
        };
        let ports = ports
            .into_iter()
            .filter_map(|port| outputs.get(port.name.as_ref()).map(|digest| (port, *digest)))
            .map(|(port, digest)| {
                Ok(PortOutput { name: port.name.to_string(), ty: port.ty, tree: store.objects.input(digest)? })
            })
            .collect::<Result<_, CommandError>>()?;
        Ok(Self { stage: name.clone(), kind: stage.kind.name, key, ports, stale })
    }
}

/// Returns the build of a stage that commands read: the one for the current manifest and its current inputs, else the last one in runs of
/// this name; `None` if the stage was never built.
///
/// # Errors
/// Returns an error if the store cannot be read, or the build is damaged.
pub(super) fn build_of(
    project: &Project,
    store: &Store,
    planned: &PlannedStage,
) -> Result<Option<ReadableBuild>, CommandError> {
    let (key, stale) = match (planned.state, planned.key) {
        (State::Cached, Some(key)) => (key.digest(), None),
        _ => {
            let Some(last) = store.builds.last_build(&project.manifest.name, planned.name.as_str())? else {
                return Ok(None);
            };
            let reasons = reason_lines(&planned.reasons, planned.compared_with.as_ref());
            (last.key, Some(format!("{}: {}", planned.state.verb(), reasons.join("; "))))
        }
    };
    match store.builds.lookup(key)? {
        Lookup::Hit(hit) => Ok(Some(ReadableBuild { key, outputs: hit.record.outputs, stale })),
        Lookup::Damaged(damage) => {
            damage.into_iter().next().map_or(Ok(None), |first| Err(StoreError::Damaged(first).into()))
        }
        Lookup::Miss => Ok(None),
    }
}

/// A build that commands read.
pub(super) struct ReadableBuild {
    pub(super) key: Digest,
    /// The tree of each port.
    pub(super) outputs: BTreeMap<String, Digest>,
    /// The reason that it does not match the current manifest and inputs: `will run: learning_rate: 5e-4 -> 6e-4`.
    pub(super) stale: Option<String>,
}
