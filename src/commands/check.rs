//! `pipeline check`: everything that can be known of a manifest before anything runs.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use super::arguments::Source;
use super::project::Project;
use crate::events::figures;
use crate::exit::Exit;

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
    let misfits = project.misfits(project.graph.order());
    misfits.iter().for_each(|misfit| anstream::eprintln!("warning: {}", misfit.text()));
    let mut out = anstream::stdout().lock();
    let stages = figures::counted(project.manifest.stages.len() as u64, "stage");
    writeln!(out, "{}: {stages}, nothing wrong", arguments.manifest.display())?;
    for name in project.graph.order() {
        if let Some(cost) = super::plan::cost_text(&project.manifest.stages[name].cost) {
            writeln!(out, "  {name}: {cost}")?;
        }
    }
    Ok(Exit::Done)
}
