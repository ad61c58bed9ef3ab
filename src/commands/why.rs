//! `pipeline why STAGE`: what differs from an earlier build of a stage ([`crate::plan::Baseline`]), root causes first, what
//! follows from them folded below.

use std::collections::BTreeSet;
use std::io::Write;

use contract::printable;
use serde::Serialize;
use serde_json::{Value, json};

use super::CommandError;
use super::arguments::StageArguments;
use super::plan::as_json;
use super::project::Project;
use super::stdout::stdout;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::StageName;
use crate::plan::{BuildName, Decider, Outputs, Plan, PlannedStage, Reason, State, inputs_of, reason_lines};
use crate::store::Lookup;

/// The build that a stage is compared with, or that is used.
#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    build: BuildName,
    /// How long it took, where that is on record.
    seconds: Option<f64>,
}

pub(super) fn run(arguments: &StageArguments) -> Result<Exit, CommandError> {
    let (path, name) =
        arguments.split().ok_or_else(|| CommandError::usage("which stage?").hint("pipeline why MANIFEST STAGE"))?;
    let project = Project::load(&path, &arguments.source)?;
    let name = project.stage(name)?;
    let store = project.read_store()?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    let plan = project.plan_for(&decider, &name)?;
    let Some(stage) = plan.stages.iter().find(|stage| stage.name == name) else { return Ok(Exit::Done) };
    let compared = compared(&decider, stage)?;
    let causes = causes(&plan, stage);
    let follows = follows(&project, stage);
    // Where nothing is stale nothing is built again.
    let cut_off = if stage.state == State::Cached { Vec::new() } else { cut_off(&project, &decider, &plan, &follows)? };
    let mut out = stdout();
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
        writeln!(out, "  by way of {}, unless the output of one of them is unchanged", between.join(", "))?;
    }
    reasons(&mut out, stage, "  ")?;
    if let Some(Compared { build, seconds }) = compared {
        let took = seconds.map(|seconds| format!(", which took {}", figures::duration(seconds))).unwrap_or_default();
        let what = if stage.state == State::Cached { "nothing differs from" } else { "compared with" };
        let name = printable(&build.text(), &[]);
        writeln!(out, "  {what} {name} (key {}){took}", build.key.short())?;
    }
    if stage.state != State::Cached && !follows.is_empty() {
        let names: Vec<_> = follows.iter().map(StageName::as_str).collect();
        writeln!(out, "  if its output changes, these may run too: {}", names.join(", "))?;
    }
    if !cut_off.is_empty() {
        let names: Vec<_> = cut_off.iter().map(StageName::as_str).collect();
        writeln!(
            out,
            "  if the outputs that are rebuilt are the same as before, these stay as they are: {}",
            names.join(", ")
        )?;
    }
    Ok(Exit::Done)
}

/// The build that the reasons compare with; of a cached stage, that which is used.
fn compared(decider: &Decider<'_>, stage: &PlannedStage) -> Result<Option<Compared>, CommandError> {
    if let (State::Cached, Some(key)) = (stage.state, stage.key) {
        let record = match decider.store.builds.lookup(key.digest())? {
            Lookup::Hit(hit) => Some(hit.record),
            Lookup::Miss | Lookup::Damaged(_) => None,
        };
        return Ok(record.map(|record| Compared { build: BuildName::of(&record), seconds: Some(record.seconds) }));
    }
    let Some(build) = stage.compared_with.clone() else { return Ok(None) };
    let builds = decider.store.builds.of(build.key)?;
    let seconds = builds.all().find(|record| Some(record.started) == build.started_ms).map(|record| record.seconds);
    Ok(Some(Compared { build, seconds }))
}

fn reasons(out: &mut impl Write, stage: &PlannedStage, indent: &str) -> std::io::Result<()> {
    let lines = reason_lines(&stage.reasons, stage.compared_with.as_ref());
    lines.iter().try_for_each(|line| writeln!(out, "{indent}{}", printable(line, &['\t'])))
}

/// The upstream stages that are stale for reasons of their own, in the order of the graph.
fn causes<'a>(plan: &'a Plan, stage: &PlannedStage) -> Vec<&'a PlannedStage> {
    let above = above(plan, stage);
    let is_cascade = |reason: &Reason| matches!(reason, Reason::Upstream { .. } | Reason::UpstreamHeld { .. });
    let is_root = |stage: &&PlannedStage| above.contains(&stage.name) && !stage.reasons.iter().all(is_cascade);
    plan.stages.iter().filter(is_root).collect()
}

/// The stages between the causes and the stage: stale only because an upstream stage is.
fn between(plan: &Plan, stage: &PlannedStage, causes: &[&PlannedStage]) -> Vec<String> {
    let above = above(plan, stage);
    let folded = plan.stages.iter().filter(|one| above.contains(&one.name));
    let folded = folded.filter(|one| !causes.iter().any(|cause| cause.name == one.name));
    folded.map(|one| one.name.to_string()).collect()
}

/// The stale upstream stages, at any distance.
fn above<'a>(plan: &'a Plan, stage: &'a PlannedStage) -> BTreeSet<&'a StageName> {
    let mut above: BTreeSet<&StageName> = stage.unknown.iter().collect();
    for candidate in plan.stages.iter().rev() {
        if above.contains(&candidate.name) {
            above.extend(&candidate.unknown);
        }
    }
    above
}

/// The stages downstream of the causes, of the plan and of `follows`, that stay as they are when each stage whose key was built
/// before, and whose build is damaged or gone, has the same output again.
fn cut_off(
    project: &Project,
    decider: &Decider<'_>,
    plan: &Plan,
    follows: &[StageName],
) -> Result<Vec<StageName>, CommandError> {
    let (mut given, mut stay) = (Outputs::new(), Vec::new());
    let concerned: BTreeSet<_> = plan.stages.iter().map(|stage| &stage.name).chain(follows).collect();
    let wanted = project.manifest.graph.ancestors(concerned);
    for name in project.manifest.graph.order().iter().filter(|name| wanted.contains(*name)) {
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

/// The downstream stages, at any distance, in the order of the graph.
fn follows(project: &Project, stage: &PlannedStage) -> Vec<StageName> {
    let downstream = project.manifest.graph.descendants([&stage.name]);
    let is_downstream = |name: &&StageName| **name != stage.name && downstream.contains(*name);
    project.manifest.graph.order().iter().filter(is_downstream).cloned().collect()
}
