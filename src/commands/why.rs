//! `pipeline why STAGE`: explains why a stage is stale: root causes first, then what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::CommandError;
use super::arguments::StageArguments;
use super::plan::as_json;
use super::project::Project;
use super::stdout::{print_json, stdout};
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::StageName;
use crate::plan::{
    BuildName, Decider, FastPath, Plan, PlannedStage, Reason, StageOutputs, State, input_trees, reason_lines,
};
use crate::store::Lookup;

/// The build that a stage is compared with; for a cached stage, the build that is used.
#[derive(Debug, Serialize)]
struct ComparedBuild {
    #[serde(flatten)]
    build: BuildName,
    /// The duration, if it is recorded.
    seconds: Option<f64>,
}

pub(super) fn run(arguments: &StageArguments) -> Result<Exit, CommandError> {
    let (path, name) = arguments.split("why")?;
    let project = Project::load(&path, &arguments.options)?;
    let name = project.stage(name)?;
    let store = project.read_store()?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    let plan = project.plan_for(&decider, &name)?;
    let Some(stage) = plan.stages.iter().find(|stage| stage.name == name) else { return Ok(Exit::Done) };
    let compared = compared(&decider, stage)?;
    let causes = causes(&plan, stage);
    let follows = follows(&project, stage);
    // If nothing is stale, no stage is rebuilt.
    let cut_off = if stage.state == State::Cached { Vec::new() } else { cut_off(&project, &decider, &plan, &follows)? };
    if arguments.json {
        let mut value = as_json(stage);
        value["causes"] = causes.iter().map(|stage| as_json(stage)).collect();
        value["compared_with"] = json!(compared);
        value["follows"] = follows.iter().map(|stage| Value::from(stage.as_str())).collect();
        value["cut_off"] = cut_off.iter().map(|stage| Value::from(stage.as_str())).collect();
        return Ok(print_json(&value)?);
    }
    let mut out = stdout();
    writeln!(out, "{name} ({}): {}", stage.kind, stage.state.text())?;
    for cause in &causes {
        writeln!(out, "  because {} {}:", cause.name, cause.state.verb())?;
        reasons(&mut out, cause, "    ")?;
    }
    let between = between(&plan, stage, &causes);
    if !between.is_empty() {
        writeln!(out, "  through {}, unless the output of one of them is unchanged", between.join(", "))?;
    }
    reasons(&mut out, stage, "  ")?;
    if let Some(ComparedBuild { build, seconds }) = compared {
        let took = seconds.map(|seconds| format!(", which took {}", figures::duration(seconds))).unwrap_or_default();
        let what = if stage.state == State::Cached { "nothing differs from" } else { "compared with" };
        writeln!(out, "  {what} {} (key {}){took}", build.text(), build.key.short())?;
    }
    if stage.state != State::Cached && !follows.is_empty() {
        let names: Vec<_> = follows.iter().map(StageName::as_str).collect();
        writeln!(out, "  if its output changes, these may run too: {}", names.join(", "))?;
    }
    if !cut_off.is_empty() {
        let names: Vec<_> = cut_off.iter().map(StageName::as_str).collect();
        writeln!(out, "  if the rebuilt outputs are the same as before, these stay cached: {}", names.join(", "))?;
    }
    Ok(Exit::Done)
}

/// Returns the build that a stage is compared with.
fn compared(decider: &Decider<'_>, stage: &PlannedStage) -> Result<Option<ComparedBuild>, CommandError> {
    if let (State::Cached, Some(key)) = (stage.state, stage.key) {
        let record = match decider.store.builds.lookup(key.digest())? {
            Lookup::Hit(hit) => Some(hit.record),
            Lookup::Miss | Lookup::Damaged(_) => None,
        };
        return Ok(record.map(|record| ComparedBuild { build: BuildName::of(&record), seconds: Some(record.seconds) }));
    }
    let Some(build) = stage.compared_with.clone() else { return Ok(None) };
    let builds = decider.store.builds.of(build.key)?;
    let seconds = builds.all().find(|record| Some(record.started) == build.started_ms).map(|record| record.seconds);
    Ok(Some(ComparedBuild { build, seconds }))
}

fn reasons(out: &mut impl Write, stage: &PlannedStage, indent: &str) -> std::io::Result<()> {
    let lines = reason_lines(&stage.reasons, stage.compared_with.as_ref());
    lines.iter().try_for_each(|line| writeln!(out, "{indent}{line}"))
}

/// Returns the upstream stages that are stale for their own reasons, in topological order.
fn causes<'a>(plan: &'a Plan, stage: &PlannedStage) -> Vec<&'a PlannedStage> {
    let upstream = stale_upstream(plan, stage);
    let is_cascade = |reason: &Reason| matches!(reason, Reason::Upstream { .. } | Reason::UpstreamHeld { .. });
    let is_root = |stage: &&PlannedStage| upstream.contains(&stage.name) && !stage.reasons.iter().all(is_cascade);
    plan.stages.iter().filter(is_root).collect()
}

/// Returns the stages between the causes and the stage, which are stale only because an upstream stage is stale.
fn between(plan: &Plan, stage: &PlannedStage, causes: &[&PlannedStage]) -> Vec<String> {
    let upstream = stale_upstream(plan, stage);
    let folded = plan.stages.iter().filter(|one| upstream.contains(&one.name));
    let causes: BTreeSet<_> = causes.iter().map(|cause| &cause.name).collect();
    let folded = folded.filter(|one| !causes.contains(&one.name));
    folded.map(|one| one.name.to_string()).collect()
}

/// Returns the stale upstream stages, direct and indirect.
fn stale_upstream<'a>(plan: &'a Plan, stage: &'a PlannedStage) -> BTreeSet<&'a StageName> {
    let mut upstream: BTreeSet<&StageName> = stage.unknown.iter().collect();
    for candidate in plan.stages.iter().rev() {
        if upstream.contains(&candidate.name) {
            upstream.extend(&candidate.unknown);
        }
    }
    upstream
}

/// Returns the stages downstream of the causes, among those of the plan and of `follows`, that stay cached if each stage whose recorded
/// build is damaged or lost produces the same output again.
fn cut_off(
    project: &Project,
    decider: &Decider<'_>,
    plan: &Plan,
    follows: &[StageName],
) -> Result<Vec<StageName>, CommandError> {
    let (mut outputs_of, mut stay) = (StageOutputs::new(), Vec::new());
    let concerned: BTreeSet<_> = plan.stages.iter().map(|stage| &stage.name).chain(follows).collect();
    let wanted = project.manifest.graph.ancestors(concerned);
    let planned: BTreeMap<_, _> = plan.stages.iter().map(|stage| (&stage.name, stage)).collect();
    let follows: BTreeSet<_> = follows.iter().collect();
    for name in project.manifest.graph.order().iter().filter(|name| wanted.contains(*name)) {
        let declared = &project.manifest.stages[name];
        let planned = planned.get(name);
        let outputs = match planned.and_then(|stage| stage.key) {
            Some(key) => decider.recorded_outputs(declared, key)?,
            None => {
                let inputs = input_trees(declared, &outputs_of);
                let hit = inputs.and_then(|inputs| match decider.fast_path(declared, &inputs) {
                    FastPath::Cached(_, hit) => Some(hit),
                    FastPath::NeverBuilt(_) | FastPath::Unknown => None,
                });
                let is_concerned = planned.is_some_and(|stage| !stage.unknown.is_empty()) || follows.contains(name);
                if hit.is_some() && is_concerned {
                    stay.push(name.clone());
                }
                hit.map(|hit| hit.record.outputs)
            }
        };
        outputs_of.extend(outputs.map(|outputs| (name.clone(), outputs)));
    }
    Ok(stay)
}

/// Returns the downstream stages, direct and indirect, in topological order.
fn follows(project: &Project, stage: &PlannedStage) -> Vec<StageName> {
    let downstream = project.manifest.graph.descendants([&stage.name]);
    let is_downstream = |name: &&StageName| **name != stage.name && downstream.contains(*name);
    project.manifest.graph.order().iter().filter(is_downstream).cloned().collect()
}
