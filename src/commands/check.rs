//! `pipeline check`: everything that can be known of a manifest before anything runs, and without reading data: of what
//! earlier runs gave, headers are looked at.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use super::arguments::Source;
use super::project::Project;
use super::run::usable;
use crate::events::figures;
use crate::exit::Exit;
use crate::plan::fit::{Misfit, Remarked};
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
}

pub(super) fn run(arguments: &CheckArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.source)?;
    usable(Budget::of(&project.manifest.exec).device, &project, project.graph.order())?;
    let misfits = project.misfits(project.graph.order());
    let remarks = project.remarks(&Store::open_read_only(&project.cache)?, project.graph.order());
    let warned = remarks.iter().filter(|remark| remark.warning.is_some()).map(Remarked::full_text);
    let warnings: Vec<_> = misfits.iter().map(Misfit::text).chain(warned).collect();
    warnings.iter().for_each(|warning| say!("warning: {warning}"));
    let mut out = anstream::stdout().lock();
    let stages = figures::counted(project.manifest.stages.len() as u64, "stage");
    let found = match warnings.len() + project.manifest.warnings.len() {
        0 => "nothing wrong".to_owned(),
        count => format!("no error, {}", figures::counted(count as u64, "warning")),
    };
    writeln!(out, "{}: {stages}, {found}", arguments.manifest.display())?;
    for name in project.graph.order() {
        if let Some(cost) = super::plan::cost_text(&project.manifest.stages[name].cost) {
            writeln!(out, "  {name}: {cost}")?;
        }
        for remark in remarks.iter().filter(|remark| remark.stage == *name && remark.warning.is_none()) {
            writeln!(out, "  {name}: {}", remark.text)?;
        }
    }
    Ok(Exit::Done)
}
