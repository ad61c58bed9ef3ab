//! The output that a command is asked about: `stage`, or `stage.output` for one port.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Digest, InputTree, PortType};

use super::CommandError;
use super::project::Project;
use crate::manifest::StageName;
use crate::manifest::did_you_mean;
use crate::plan::{Decider, PlannedStage, State, reason_lines};
use crate::store::{Lookup, Store, StoreError};

/// The output of a stage.
pub(super) struct StageOutput {
    pub(super) stage: StageName,
    pub(super) kind: &'static str,
    /// The key of the build.
    pub(super) key: Digest,
    /// Its ports in the order in which the kind declares them, the wanted ones only.
    pub(super) ports: Vec<PortOutput>,
    /// As [`Shown::stale`].
    pub(super) stale: Option<String>,
}

/// The output of one port.
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
        let forced = BTreeSet::new();
        let plan = project.plan_for(&Decider::new(&project.manifest, store, &forced), &name)?;
        let planned = plan.stages.iter().find(|stage| stage.name == name);
        let shown = planned.map(|planned| build_of(project, store, planned)).transpose()?.flatten();
        let Some(Shown { key, outputs, stale }) = shown else { return Err(never_built(project, &name)) };
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

/// The build of a stage to look at: that of the manifest and its inputs as they are, else the stage's last one in runs of this
/// name; `None` where it was never built. Every command that looks at outputs asks here.
///
/// # Errors
/// When the store cannot be read, or the build is damaged or gone.
pub(super) fn build_of(
    project: &Project,
    store: &Store,
    planned: &PlannedStage,
) -> Result<Option<Shown>, CommandError> {
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
        Lookup::Hit(hit) => Ok(Some(Shown { key, outputs: hit.record.outputs, stale })),
        Lookup::Damaged(damage) => match damage.into_iter().next() {
            Some(damage) => Err(StoreError::Damaged(damage).into()),
            None => Ok(None),
        },
        Lookup::Miss => Ok(None),
    }
}

/// A build that is looked at.
pub(super) struct Shown {
    pub(super) key: Digest,
    /// The tree of each port.
    pub(super) outputs: BTreeMap<String, Digest>,
    /// Why it is not of the manifest and its inputs as they are now: `will run: learning_rate: 5e-4 -> 6e-4`.
    pub(super) stale: Option<String>,
}

fn never_built(project: &Project, name: &StageName) -> CommandError {
    CommandError::Failed { message: format!("stage '{name}' has no output yet"), hint: Some(run_hint(project)) }
}

fn run_hint(project: &Project) -> String {
    format!("pipeline run {}", project.manifest.path.display())
}
