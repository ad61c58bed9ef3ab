//! `pipeline check`: everything that can be known of a manifest before anything runs, and without reading data: of what
//! earlier runs gave, headers are looked at; files outside the store are looked for. That one is missing is a warning: it
//! may be there on the machine that runs the manifest. What `run` would refuse is an error; only to tell whether a stage that
//! was built before and does not fit is cached are files hashed that no run has seen yet.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::arguments::Source;
use super::project::Project;
use super::run::usable;
use super::stdout::stdout;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::{Place, PlacedDiagnostic, PlacedLabel, Severity, StageName};
use crate::plan::fit::ResourceShortfall;
use crate::plan::lint::LocatedAdvice;
use crate::plan::{Decider, SourceProblem};
use crate::run::Budget;
use crate::say::say;
use crate::store::Store;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub source: Source,
    /// Warn of stages that need more memory or disk than there is, by estimate; without it they are errors (exit code 2).
    #[arg(long)]
    pub allow_oversize: bool,
    /// Print one JSON object: `problems`, and `stages` with their costs and remarks where there is no error.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &CheckArguments) -> Result<Exit, CommandError> {
    let project = match Project::load(&arguments.manifest, &arguments.source) {
        Err(CommandError::Manifest(diagnostics)) if arguments.json => {
            let mut out = stdout();
            writeln!(out, "{:#}", json!({ "problems": diagnostics.placed(), "stages": null }))?;
            return Ok(Exit::Usage);
        }
        loaded => loaded?,
    };
    let budget = Budget::of(&project.manifest.exec);
    let device = usable(budget.device, &project, project.manifest.graph.order())?;
    let (store, forced) = (Store::open_read_only(&project.cache)?, BTreeSet::new());
    let decider = Decider::new(&project.manifest, &store, &forced);
    let misfits = project.misfits_if_run(&decider, Budget { device, ..budget })?;
    let is_error = |misfit: &&ResourceShortfall| misfit.is_error && !arguments.allow_oversize;
    let exit = if misfits.iter().any(|misfit| is_error(&misfit)) { Exit::Usage } else { Exit::Done };
    let advice = project.advice(&store, project.manifest.graph.order());
    let sources: Vec<_> = project
        .manifest
        .graph
        .order()
        .iter()
        .flat_map(|name| decider.source_problems(&project.manifest.stages[name]))
        .collect();
    let warned = || advice.iter().filter(|advice| advice.warning.is_some());
    let mut out = stdout();
    if arguments.json {
        let problem = |severity, places: &[&Place], message: String, hint: Option<String>| PlacedDiagnostic {
            severity,
            message,
            places: places.iter().map(|place| PlacedLabel { place: (*place).clone(), text: String::new() }).collect(),
            hint,
        };
        let mut problems = project.manifest.warnings.placed();
        problems.extend(
            sources.iter().map(|source| problem(Severity::Warning, &[&source.place], source.text.clone(), None)),
        );
        problems.extend(misfits.iter().map(|misfit| {
            let places: Vec<_> = [&misfit.place].into_iter().chain(&misfit.limit).collect();
            let severity = if is_error(&misfit) { Severity::Error } else { Severity::Warning };
            problem(severity, &places, misfit.message(), Some(misfit.hint().to_owned()))
        }));
        problems.extend(
            warned().map(|advice| {
                problem(Severity::Warning, &[&advice.place], advice.text.clone(), advice.warning.clone())
            }),
        );
        let stage = |name: &StageName| {
            let advice: Vec<_> = advice.iter().filter(|advice| advice.stage == *name).map(|one| &one.text).collect();
            json!({ "name": name, "cost": decider.cost(&project.manifest.stages[name]), "remarks": advice })
        };
        let stages: Vec<_> = project.manifest.graph.order().iter().map(stage).collect();
        writeln!(out, "{:#}", json!({ "problems": problems, "stages": stages }))?;
        return Ok(exit);
    }
    let (errors, unfit): (Vec<_>, Vec<_>) = misfits.iter().partition(is_error);
    errors.iter().for_each(|misfit| say!("error: {}", misfit.text()));
    let sources = sources.iter().map(SourceProblem::full_text);
    let warnings: Vec<_> = sources
        .chain(unfit.into_iter().map(ResourceShortfall::text))
        .chain(warned().map(LocatedAdvice::full_text))
        .collect();
    warnings.iter().for_each(|warning| say!("warning: {warning}"));
    let stages = figures::counted(project.manifest.stages.len() as u64, "stage");
    let counted = |count: usize, what| figures::counted(count as u64, what);
    let warned = warnings.len() + project.manifest.warnings.len();
    let found = match (errors.len(), warned) {
        (0, 0) => "nothing wrong".to_owned(),
        (0, _) => format!("no error, {}", counted(warned, "warning")),
        (count, _) => format!("{}, {}", counted(count, "error"), counted(warned, "warning")),
    };
    writeln!(out, "{}: {stages}, {found}", arguments.manifest.display())?;
    for name in project.manifest.graph.order() {
        if let Some(cost) = super::plan::cost_text(&decider.cost(&project.manifest.stages[name])) {
            writeln!(out, "  {name}: {cost}")?;
        }
        for advice in advice.iter().filter(|advice| advice.stage == *name && advice.warning.is_none()) {
            writeln!(out, "  {name}: {}", advice.text)?;
        }
    }
    Ok(exit)
}
