//! `pipeline plan`: what `run` would do, and why.

use std::io::Write;

use serde_json::json;

use super::CommandError;
use super::arguments::PlanArguments;
use super::project::Project;
use crate::exit::Exit;
use crate::plan::{Decider, Plan, PlannedStage, Reason, State};
use crate::store::Store;

pub(super) fn run(arguments: &PlanArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.source)?;
    let (wanted, forced) = (project.wanted(&arguments.until)?, project.stages(&arguments.force)?);
    let store = Store::open_read_only(&project.cache)?;
    let decider = Decider { manifest: &project.manifest, store: &store, forced: &forced };
    let plan = Plan::new(&decider, &project.graph, &wanted)?;
    let mut out = anstream::stdout().lock();
    if arguments.json {
        let stages: Vec<_> = plan.stages.iter().map(as_json).collect();
        writeln!(out, "{:#}", json!({ "run": project.manifest.name, "stages": stages }))?;
        return Ok(Exit::Done);
    }
    let width = plan.stages.iter().map(|stage| stage.name.as_str().len()).max().unwrap_or(0);
    for stage in &plan.stages {
        let key = stage.key.map(|key| key.short()).unwrap_or_default();
        let mut reasons = stage.reasons.iter().map(Reason::text);
        let first = reasons.next().unwrap_or(key);
        writeln!(out, "{:>8}  {:width$}  {first}", stage.state.text(), stage.name.as_str())?;
        for reason in reasons {
            writeln!(out, "{:>8}  {:width$}  {reason}", "", "")?;
        }
    }
    let count = |state| plan.stages.iter().filter(|stage| stage.state == state).count();
    let counts = [State::Cached, State::WillRun, State::MayRun].map(|state| (count(state), state.text()));
    let counts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, text)| format!("{n} {text}")).collect();
    writeln!(out, "{}", counts.join(", "))?;
    Ok(Exit::Done)
}

/// `{name, kind, key, state, reasons}`; each reason has its typed fields and `text`, the line for people.
pub(super) fn as_json(stage: &PlannedStage) -> serde_json::Value {
    let reason = |reason: &Reason| {
        let mut value = json!(reason);
        value["text"] = reason.text().into();
        value
    };
    json!({
        "name": stage.name,
        "kind": stage.kind,
        "key": stage.key,
        "state": stage.state,
        "reasons": stage.reasons.iter().map(reason).collect::<Vec<_>>(),
    })
}
