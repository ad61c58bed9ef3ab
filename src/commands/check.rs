//! `pipeline check`: reports what can be known about a manifest before anything runs, without reading data.
//!
//! Only the headers of earlier outputs are read. A missing source file is a warning, because it may exist on the machine that runs the
//! manifest. Anything that `run` would refuse is an error, and so is a stage requirement that this machine does not meet. New source files
//! are hashed only to decide whether a stage that does not fit this machine is cached.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::arguments::ManifestOptions;
use super::device;
use super::project::Project;
use super::stdout::{print_json, stdout};
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::{Place, PlacedDiagnostic, PlacedLabel, Severity, StageName};
use crate::plan::Decider;
use crate::run::Budget;
use crate::stderr::stderr;
use crate::store::Store;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// Warn about stages that are estimated to need more memory or disk than is available; by default these are errors.
    #[arg(long)]
    pub allow_oversize: bool,
    /// Print one JSON object: `problems`, and `stages` with their costs and remarks if there is no error.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &CheckArguments) -> Result<Exit, CommandError> {
    let project = match Project::load(&arguments.manifest, &arguments.options) {
        Err(CommandError::Manifest(diagnostics)) if arguments.json => {
            print_json(&json!({ "problems": diagnostics.placed(), "stages": null }))?;
            return Ok(Exit::Usage);
        }
        loaded => loaded?,
    };
    let budget = Budget::of(&project.manifest.exec);
    let device = device::resolve(budget.device, &project, project.manifest.graph.order())?;
    let (store, forced) = (Store::open_read_only(&project.cache)?, BTreeSet::new());
    let decider = Decider::new(&project.manifest, &store, &forced);
    // Each problem as JSON, with its line for people.
    let mut problems: Vec<(PlacedDiagnostic, String)> = Vec::new();
    let mut add = |severity, places: Vec<Place>, message, hint, text| {
        let places = places.into_iter().map(|place| PlacedLabel { place, text: String::new() }).collect();
        problems.push((PlacedDiagnostic { severity, message, places, hint }, text));
    };
    for source in
        project.manifest.graph.order().iter().flat_map(|name| decider.source_problems(&project.manifest.stages[name]))
    {
        let text = source.full_text();
        add(Severity::Warning, vec![source.place], source.text, None, text);
    }
    for shortfall in project.shortfalls_if_run(&decider, Budget { device, ..budget })? {
        let is_error = shortfall.is_error && !arguments.allow_oversize;
        let severity = if is_error { Severity::Error } else { Severity::Warning };
        let (message, hint, text) = (shortfall.message(), shortfall.hint().to_owned(), shortfall.text());
        add(severity, [shortfall.place].into_iter().chain(shortfall.limit).collect(), message, Some(hint), text);
    }
    let advice = project.advice(&store, project.manifest.graph.order());
    for one in advice.iter().filter(|one| one.warning.is_some()) {
        let (text, hint) = (one.text.clone(), one.warning.clone());
        add(Severity::Warning, vec![one.place.clone()], text, hint, one.full_text());
    }
    let machine = project.check_machine();
    for one in machine.iter().filter(|one| one.missing.is_some()) {
        add(Severity::Error, vec![one.place.clone()], one.message(), one.missing.clone(), one.full_text());
    }
    let provided: Vec<_> = machine.iter().filter(|one| one.missing.is_none()).collect();
    let errors = problems.iter().filter(|(problem, _)| problem.severity == Severity::Error).count();
    let exit = if errors > 0 { Exit::Usage } else { Exit::Done };
    if arguments.json {
        let problems =
            project.manifest.warnings.placed().into_iter().chain(problems.into_iter().map(|(problem, _)| problem));
        let stage = |name: &StageName| {
            let remarks = advice.iter().filter(|one| one.stage == *name).map(|one| &one.text);
            let provided = provided.iter().filter(|one| one.stage == *name).map(|one| &one.text);
            let remarks: Vec<_> = remarks.chain(provided).collect();
            json!({ "name": name, "cost": decider.cost(&project.manifest.stages[name]), "remarks": remarks })
        };
        let stages: Vec<_> = project.manifest.graph.order().iter().map(stage).collect();
        print_json(&json!({ "problems": problems.collect::<Vec<_>>(), "stages": stages }))?;
        return Ok(exit);
    }
    for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
        let problems = problems.iter().filter(|(problem, _)| problem.severity == severity);
        problems.for_each(|(_, text)| stderr!("{word}: {text}"));
    }
    let counted = |count: usize, what| figures::counted(count as u64, what);
    let stages = counted(project.manifest.stages.len(), "stage");
    let found = match (errors, problems.len() - errors + project.manifest.warnings.len()) {
        (0, 0) => "no problems".to_owned(),
        (0, warnings) => format!("no errors, {}", counted(warnings, "warning")),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    let mut out = stdout();
    writeln!(out, "{}: {stages}, {found}", arguments.manifest.display())?;
    for name in project.manifest.graph.order() {
        if let Some(cost) = super::plan::cost_text(&decider.cost(&project.manifest.stages[name])) {
            writeln!(out, "  {name}: {cost}")?;
        }
        for one in advice.iter().filter(|one| one.stage == *name && one.warning.is_none()) {
            writeln!(out, "  {name}: {}", one.text)?;
        }
        for one in provided.iter().filter(|one| one.stage == *name) {
            writeln!(out, "  {name}: {}", one.text)?;
        }
    }
    Ok(exit)
}
