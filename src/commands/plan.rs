//! `pipeline plan`: shows what `run` would do, and why.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use contract::Cost;
use serde_json::json;

use super::CommandError;
use super::arguments::ManifestOptions;
use super::device;
use super::project::Project;
use super::stdout::{print_json, stdout};
use crate::events::figures;
use crate::exit::Exit;
use crate::plan::fit::ALLOW;
use crate::plan::{Basis, Decider, Plan, PlannedStage, Reason, State, range, reason_lines};
use crate::run::Budget;
use crate::stderr::stderr;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// Plan only this stage and its dependencies (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Plan to run this stage even if its output is in the store (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Print one JSON object: `run`, `stages`, each {name, kind, key, state, estimate, no_estimate, cost, reasons,
    /// compared_with}, and `remarks`.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &PlanArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.options)?;
    let (wanted, forced) = (project.wanted(&arguments.until)?, project.stages(&arguments.force)?);
    let store = project.read_store()?;
    let decider = Decider::new(&project.manifest, &store, &forced);
    let plan = project.plan(&decider, &wanted)?;
    let stale = plan.stale();
    let budget = Budget::of(&project.manifest.exec);
    let device = device::resolve(budget.device, &project, &stale).unwrap_or_else(|error| {
        stderr!("warning: {}", error.to_string().trim_start_matches("error: "));
        budget.device
    });
    for shortfall in project.shortfalls(&decider, &plan, Budget { device, ..budget })? {
        let refused = if shortfall.is_error { format!("; `run` refuses it without {ALLOW}") } else { String::new() };
        stderr!("warning: {}{refused}", shortfall.text());
    }
    let advice = project.advice(&store, &stale);
    if arguments.json {
        let stages: Vec<_> = plan.stages.iter().map(as_json).collect();
        let value = json!({ "run": project.manifest.name, "stages": stages, "remarks": advice });
        return Ok(print_json(&value)?);
    }
    let mut out = stdout();
    for one in advice.iter().filter(|one| one.warning.is_some()) {
        stderr!("warning: {}", one.full_text());
    }
    let width = plan.stages.iter().map(|stage| stage.name.as_str().len()).max().unwrap_or(0);
    for stage in &plan.stages {
        let key = stage.key.map(|key| key.short()).unwrap_or_default();
        let mut reasons = reason_lines(&stage.reasons, stage.compared_with.as_ref()).into_iter();
        let first = reasons.next().unwrap_or(key);
        writeln!(out, "{:>8}  {:width$}  {first}", stage.state.text(), stage.name.as_str())?;
        // The reason of an interrupted build includes the time left.
        let estimate = stage.estimate.filter(|estimate| estimate.basis != Basis::Checkpoint);
        let estimate = estimate.map(|estimate| estimate.text());
        let time = estimate.or(stage.no_estimate.map(|none| none.text(stage.kind)));
        let cost = (stage.state != State::Cached).then(|| cost_text(&stage.cost)).flatten();
        let advice = advice.iter().filter(|one| one.stage == stage.name && one.warning.is_none());
        for line in reasons.chain(time).chain(cost).chain(advice.map(|one| one.text.clone())) {
            writeln!(out, "{:>8}  {:width$}  {}", "", "", line)?;
        }
    }
    let totals = State::ALL.map(|state| total(&plan, state));
    writeln!(out, "{}", totals.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    Ok(Exit::Done)
}

/// Returns `reads 1,966,080 tokens (196,608 an update) in 1.44e15 floating-point operations`.
pub(super) fn cost_text(cost: &Cost) -> Option<String> {
    let (tokens, flops) = (cost.tokens?, cost.flops?);
    let an_update = |updates: u64| format!(" ({} an update)", figures::count(tokens / updates));
    let an_update = cost.updates.filter(|updates| *updates > 0).map(an_update).unwrap_or_default();
    let tokens = figures::counted(tokens, "token");
    Some(format!("reads {tokens}{an_update} in {flops:.2e} floating-point operations"))
}

/// Returns `2 will run (12 s to 1:40, 1 without an estimate)`; `None` if no stage is in the state.
fn total(plan: &Plan, state: State) -> Option<String> {
    let stages: Vec<_> = plan.stages.iter().filter(|stage| stage.state == state).collect();
    let (count, text) = (stages.len(), state.text());
    let known: Vec<_> = stages.iter().filter_map(|stage| stage.estimate).collect();
    let unknown = count - known.len();
    match (count, known.as_slice()) {
        (0, _) => None,
        (_, []) => Some(format!("{count} {text}")),
        (_, known) => {
            let (least, most) = (known.iter().map(|one| one.least).sum(), known.iter().map(|one| one.most).sum());
            let rest = if unknown > 0 { format!(", {unknown} without an estimate") } else { String::new() };
            Some(format!("{count} {text} ({}{rest})", range(least, most)))
        }
    }
}

/// Returns a planned stage as JSON; each reason has its fields, and `text` for people.
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
        "estimate": stage.estimate,
        "no_estimate": stage.no_estimate,
        "cost": stage.cost,
        "reasons": stage.reasons.iter().map(reason).collect::<Vec<_>>(),
        "compared_with": stage.compared_with,
    })
}
