//! `pipeline why STAGE`: what differs from the stage's last build, root causes first.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::json;

use super::CommandError;
use super::arguments::StageArguments;
use super::plan::as_json;
use super::project::Project;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::StageName;
use crate::plan::{Plan, PlannedStage, Reason, State};
use crate::store::Store;

pub(super) fn run(arguments: &StageArguments) -> Result<Exit, CommandError> {
    let (path, name) =
        arguments.split().ok_or_else(|| CommandError::usage("which stage?").hint("pipeline why MANIFEST STAGE"))?;
    let project = Project::load(&path, &arguments.source)?;
    let name = project.stage(name)?;
    let store = Store::open_read_only(&project.cache)?;
    let plan = project.plan_for(&store, &name)?;
    let Some(stage) = plan.stages.iter().find(|stage| stage.name == name) else { return Ok(Exit::Done) };
    let last = store.last_build(&project.manifest.name, name.as_str())?;
    let record = match &last {
        Some(last) => store.builds(last.key)?.records.into_values().next(),
        None => None,
    };
    let mut out = anstream::stdout().lock();
    if arguments.json {
        let mut value = as_json(stage);
        value["causes"] = causes(&plan, stage).iter().map(|stage| as_json(stage)).collect();
        value["last_build"] = record.as_ref().map_or(json!(null), |record| {
            json!({ "key": record.key, "started_ms": record.started, "seconds": record.seconds, "outputs": record.outputs })
        });
        writeln!(out, "{value:#}")?;
        return Ok(Exit::Done);
    }
    writeln!(out, "{name} ({}): {}", stage.kind, stage.state.text())?;
    for cause in causes(&plan, stage) {
        writeln!(out, "  because {} {}:", cause.name, cause.state.text())?;
        reasons(&mut out, cause, "    ")?;
    }
    reasons(&mut out, stage, "  ")?;
    match (&record, stage.state) {
        (Some(record), State::Cached) => {
            let took = figures::duration(record.seconds);
            writeln!(out, "  nothing differs from its last build: key {}, which took {took}", record.key.short())?;
        }
        (Some(record), _) => {
            let took = figures::duration(record.seconds);
            writeln!(out, "  its last build has key {} and took {took}", record.key.short())?;
        }
        (None, State::Cached) => writeln!(out, "  another stage or run built the same key")?,
        (None, _) => {}
    }
    Ok(Exit::Done)
}

fn reasons(out: &mut impl Write, stage: &PlannedStage, indent: &str) -> std::io::Result<()> {
    stage.reasons.iter().try_for_each(|reason| writeln!(out, "{indent}{}", reason.text()))
}

/// The stages above that are stale for reasons of their own, in the order of the graph.
fn causes<'a>(plan: &'a Plan, stage: &PlannedStage) -> Vec<&'a PlannedStage> {
    let mut above: BTreeSet<&StageName> = upstream(stage).collect();
    for candidate in plan.stages.iter().rev() {
        if above.contains(&candidate.name) {
            above.extend(upstream(candidate));
        }
    }
    let is_root = |stage: &&PlannedStage| {
        above.contains(&stage.name) && stage.reasons.iter().any(|reason| !matches!(reason, Reason::Upstream { .. }))
    };
    plan.stages.iter().filter(is_root).collect()
}

fn upstream(stage: &PlannedStage) -> impl Iterator<Item = &StageName> {
    stage.reasons.iter().flat_map(|reason| match reason {
        Reason::Upstream { stages } => stages.as_slice(),
        _ => &[],
    })
}
