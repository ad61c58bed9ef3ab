//! `pipeline why STAGE`: what differs from the nearest earlier build of a stage, root causes first, what follows from them
//! folded below.

use std::collections::BTreeSet;
use std::io::Write;

use contract::printable;
use serde::Serialize;
use serde_json::{Value, json};

use super::CommandError;
use super::arguments::StageArguments;
use super::plan::as_json;
use super::project::Project;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::StageName;
use crate::plan::{Decider, Outputs, Plan, PlannedStage, Reason, State, inputs_of};
use crate::store::{Lookup, Record, Store};

/// The build that a stage is compared with.
#[derive(Debug, Serialize)]
struct Compared {
    key: contract::Digest,
    run: String,
    started_ms: u64,
    seconds: f64,
}

pub(super) fn run(arguments: &StageArguments) -> Result<Exit, CommandError> {
    let (path, name) =
        arguments.split().ok_or_else(|| CommandError::usage("which stage?").hint("pipeline why MANIFEST STAGE"))?;
    let project = Project::load(&path, &arguments.source)?;
    let name = project.stage(name)?;
    let store = Store::open_read_only(&project.cache)?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    let plan = project.plan_for(&decider, &name)?;
    let Some(stage) = plan.stages.iter().find(|stage| stage.name == name) else { return Ok(Exit::Done) };
    let compared = compared(&decider, stage)?;
    let causes = causes(&plan, stage);
    let follows = follows(&project, stage);
    // Where nothing is stale nothing is built again.
    let cut_off = if stage.state == State::Cached { Vec::new() } else { cut_off(&project, &decider, &plan, &follows)? };
    let mut out = anstream::stdout().lock();
    if arguments.json {
        let mut value = as_json(stage);
        value["causes"] = causes.iter().map(|stage| as_json(stage)).collect();
        value["compared_with"] = json!(compared);
        value["follows"] = follows.iter().map(|stage| Value::from(stage.as_str())).collect();
        value["cut_off"] = cut_off.iter().map(|stage| Value::from(stage.as_str())).collect();
        writeln!(out, "{value:#}")?;
        return Ok(Exit::Done);
    }
    writeln!(out, "{name} ({}): {}", stage.kind, stage.state.text())?;
    for cause in &causes {
        writeln!(out, "  because {} {}:", cause.name, cause.state.verb())?;
        reasons(&mut out, cause, "    ")?;
    }
    let between = between(&plan, stage, &causes);
    if !between.is_empty() {
        writeln!(out, "  by way of {}, unless one of them gives the same bytes as before", between.join(", "))?;
    }
    reasons(&mut out, stage, "  ")?;
    if let Some(Compared { key, run, seconds, .. }) = compared {
        let (key, took) = (key.short(), figures::duration(seconds));
        let other = !run.is_empty() && run != project.manifest.name;
        let run = if other { format!(" in run '{}'", printable(&run, &[])) } else { String::new() };
        match stage.state {
            State::Cached => writeln!(out, "  nothing differs from its build with key {key}{run}, which took {took}")?,
            _ => writeln!(out, "  compared with its build with key {key}{run}, which took {took}")?,
        }
    } else if stage.state == State::Cached {
        writeln!(out, "  another stage or run built the same key")?;
    }
    if stage.state != State::Cached && !follows.is_empty() {
        let names: Vec<_> = follows.iter().map(StageName::as_str).collect();
        writeln!(out, "  if its output changes, these may run too: {}", names.join(", "))?;
    }
    if !cut_off.is_empty() {
        let names: Vec<_> = cut_off.iter().map(StageName::as_str).collect();
        writeln!(
            out,
            "  if what is built again gives what it gave before, these stay as they are: {}",
            names.join(", ")
        )?;
    }
    Ok(Exit::Done)
}

/// The nearest earlier build; of a cached stage, that which is used.
fn compared(decider: &Decider<'_>, stage: &PlannedStage) -> Result<Option<Compared>, CommandError> {
    if let (State::Cached, Some(key)) = (stage.state, stage.key) {
        let record = match decider.store.lookup(key.digest())? {
            Lookup::Hit(hit) => Some(hit.record),
            Lookup::Miss | Lookup::Damaged(_) => None,
        };
        return Ok(record.map(|Record { key, run, started, seconds, .. }| Compared {
            key,
            run,
            started_ms: started,
            seconds,
        }));
    }
    let declared = &decider.manifest.stages[&stage.name];
    let nearest = decider.nearest_to(declared, stage)?;
    Ok(nearest.map(|build| Compared {
        key: build.key,
        run: build.run.clone(),
        started_ms: build.started,
        seconds: build.seconds,
    }))
}

fn reasons(out: &mut impl Write, stage: &PlannedStage, indent: &str) -> std::io::Result<()> {
    stage.reasons.iter().try_for_each(|reason| writeln!(out, "{indent}{}", printable(&reason.text(), &['\t'])))
}

/// The stages above that are stale for reasons of their own, in the order of the graph.
fn causes<'a>(plan: &'a Plan, stage: &PlannedStage) -> Vec<&'a PlannedStage> {
    let above = above(plan, stage);
    let is_cascade = |reason: &Reason| matches!(reason, Reason::Upstream { .. } | Reason::UpstreamHeld { .. });
    let is_root = |stage: &&PlannedStage| above.contains(&stage.name) && !stage.reasons.iter().all(is_cascade);
    plan.stages.iter().filter(is_root).collect()
}

/// The stages between the causes and the stage: stale only because something above them is.
fn between(plan: &Plan, stage: &PlannedStage, causes: &[&PlannedStage]) -> Vec<String> {
    let above = above(plan, stage);
    let folded = plan.stages.iter().filter(|one| above.contains(&one.name));
    let folded = folded.filter(|one| !causes.iter().any(|cause| cause.name == one.name));
    folded.map(|one| one.name.to_string()).collect()
}

/// The stale stages that a stage waits for, at any distance.
fn above<'a>(plan: &'a Plan, stage: &'a PlannedStage) -> BTreeSet<&'a StageName> {
    let mut above: BTreeSet<&StageName> = stage.unknown.iter().collect();
    for candidate in plan.stages.iter().rev() {
        if above.contains(&candidate.name) {
            above.extend(&candidate.unknown);
        }
    }
    above
}

/// The stages below the causes, of the plan and of `follows`, that stay as they are when each stage whose key was built before,
/// and whose build is damaged or gone, gives again what it gave then.
fn cut_off(
    project: &Project,
    decider: &Decider<'_>,
    plan: &Plan,
    follows: &BTreeSet<StageName>,
) -> Result<Vec<StageName>, CommandError> {
    let (mut given, mut stay) = (Outputs::new(), Vec::new());
    let concerned: BTreeSet<_> = plan.stages.iter().map(|stage| &stage.name).chain(follows).collect();
    let wanted = project.graph.ancestors(concerned);
    for name in project.graph.order().iter().filter(|name| wanted.contains(*name)) {
        let declared = &project.manifest.stages[name];
        let planned = plan.stages.iter().find(|stage| stage.name == *name);
        let outputs = match planned.and_then(|stage| stage.key) {
            Some(key) => decider.given(declared, key)?,
            None => {
                let inputs = inputs_of(declared, &given);
                let hit = inputs.and_then(|inputs| decider.cached_at_once(declared, &inputs));
                let is_concerned = planned.is_some_and(|stage| !stage.unknown.is_empty()) || follows.contains(name);
                if hit.is_some() && is_concerned {
                    stay.push(name.clone());
                }
                hit.map(|(_, hit)| hit.record.outputs)
            }
        };
        given.extend(outputs.map(|outputs| (name, outputs)));
    }
    Ok(stay)
}

/// The stages that need this one, at any distance.
fn follows(project: &Project, stage: &PlannedStage) -> BTreeSet<StageName> {
    let mut below = project.graph.descendants([&stage.name]);
    below.remove(&stage.name);
    below
}
