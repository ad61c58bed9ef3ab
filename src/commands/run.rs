//! `pipeline run`: runs the stale stages of a manifest.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use contract::Cancel;

use super::CommandError;
use super::arguments::{ExecOptions, ManifestOptions};
use super::device::budget;
use super::project::Project;
use super::signals::stop_on_signals;
use super::store_dir;
use crate::events::{Mode, Purpose};
use crate::exit::Exit;
use crate::manifest::{self, StageName};
use crate::parallel::limit_threads;
use crate::plan::{Decider, StageOutputs};
use crate::run::{Options, Outcome, RecordedRun, Summary};
use crate::stderr::stderr;
use crate::store::{RunDir, Store, StoreError};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub options: ManifestOptions,
    #[command(flatten)]
    pub exec: ExecOptions,
    /// Show only failures and warnings.
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Print the events to standard output, one JSON object per line.
    #[arg(long)]
    pub json: bool,
    /// Run only this stage and its dependencies (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Run this stage even if its output is in the store (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Run this stage, or `all`, again and compare its output with the stored one; exit code 3 if it differs (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub check: Vec<String>,
    /// Take over the runs of this name from another manifest, such as after the project was moved.
    #[arg(long)]
    pub adopt: bool,
    /// After a failure, run every stage that does not depend on the failed one (the default).
    #[arg(long, overrides_with = "fail_fast")]
    pub keep_going: bool,
    /// After a failure, start no further stages and wait for those that are running.
    #[arg(long, overrides_with = "keep_going")]
    pub fail_fast: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<Exit, CommandError> {
    arguments.exec.threads.into_iter().for_each(|threads| limit_threads(threads.into()));
    let project = Project::load(&arguments.manifest, &arguments.options)?;
    let wanted = project.wanted(&arguments.until)?;
    let checked = match arguments.check.iter().any(|stage| stage == "all") {
        true => wanted.clone(),
        false => project.stages(&arguments.check)?,
    };
    let mut forced = project.stages(&arguments.force)?;
    forced.extend(checked.iter().cloned());
    if let Some(stage) = forced.iter().find(|stage| !wanted.contains(*stage)) {
        return Err(CommandError::usage(format!("cannot force or check '{stage}': no stage of --until depends on it")));
    }
    let budget = match budget(&arguments.exec, &project, &wanted) {
        // A cached stage needs no device.
        Err(absent) => {
            let store = Store::open_read_only(&project.cache)?;
            let stale = project.plan(&Decider::new(&project.manifest, &store, &forced), &wanted)?.stale();
            budget(&arguments.exec, &project, &stale).map_err(|_| absent)?
        }
        budget => budget?,
    };
    {
        let store = Store::open_read_only(&project.cache)?;
        if project.refuses(&Decider::new(&project.manifest, &store, &forced), &wanted, budget)? {
            return Ok(Exit::Usage);
        }
    }
    let cancel = stop_on_signals()?;
    let store = open(&project, &wanted, &forced, arguments.quiet, &cancel)?;
    if arguments.adopt && store.is_writable() {
        store.runs.take_over(&project.manifest.name, &manifest::origin(&project.manifest.path))?;
    }
    let decider = Decider::new(&project.manifest, &store, &forced);
    let options = Options { budget, fail_fast: arguments.fail_fast, wanted, provided: StageOutputs::new(), cancel };
    let shown = vec![Mode::choose(arguments.json, arguments.quiet).renderer()];
    let RecordedRun { dir, outcome, lost, written, .. } =
        RecordedRun::execute(decider, &project.manifest.graph, &options, shown)?;
    if let Err(error) = &written {
        stderr!("warning: the run has no run.lock: {error}");
    }
    if let Some(dir) = dir.filter(|_| !arguments.json && !arguments.quiet) {
        note_outputs(&store, dir)?;
    }
    let checks = report_checks(&outcome, &checked);
    let exit = match exit(outcome.summary) {
        Exit::Done if written.is_err() => Exit::StoreDamaged,
        // The stages are done, but events that the user requested were lost.
        Exit::Done if lost.contains(&Purpose::Printed) => Exit::StageFailed,
        Exit::Done => checks,
        exit => exit,
    };
    Ok(exit)
}

/// Opens the store for a run. If it cannot be written, a run whose stages are all cached succeeds and is not recorded.
fn open(
    project: &Project,
    wanted: &BTreeSet<StageName>,
    forced: &BTreeSet<StageName>,
    quiet: bool,
    cancel: &Cancel,
) -> Result<Store, CommandError> {
    let is_new = !Store::is_at(&project.cache)?;
    let opened = Store::open_until(&project.cache, cancel).and_then(|store| store.check_writable().map(|()| store));
    let refusal = match opened {
        Err(error) if error.is_write_denied() && !is_new => error,
        opened => {
            let store = opened?;
            if is_new && !quiet {
                stderr!("note: new store {}", project.cache.display());
            }
            return Ok(store);
        }
    };
    let store = Store::open_read_only(&project.cache)?;
    let plan = project.plan(&Decider::new(&project.manifest, &store, forced), wanted)?;
    let stages: Vec<_> = plan.stale().iter().map(ToString::to_string).collect();
    if !stages.is_empty() {
        return Err(StoreError::Unbuildable { stages, because: Box::new(refusal) }.into());
    }
    stderr!("warning: the run is not recorded: {refusal}");
    Ok(store)
}

/// Prints where the outputs of a run are if `latest` does not point to them: the run failed, was interrupted or ran only some of the
/// stages, or a later run ended first.
fn note_outputs(store: &Store, dir: RunDir) -> Result<(), CommandError> {
    let latest = store.runs.latest(&dir.run)?;
    if latest.as_ref() != Some(&dir) {
        let latest = latest.map(|latest| format!("; `latest` points to {latest}")).unwrap_or_default();
        stderr!("note: the outputs of this run are in {}{latest}", store_dir::relative(dir.path).display());
    }
    Ok(())
}

/// Reports the comparison of checked stages.
fn report_checks(outcome: &Outcome, checked: &BTreeSet<StageName>) -> Exit {
    let mut exit = Exit::Done;
    for name in checked {
        let Some(stage) = outcome.stages.get(name) else { continue };
        let key = stage.record.key.short();
        let text = match (stage.differs, stage.earlier) {
            (true, _) => {
                exit = Exit::Differs;
                format!("{name}: DIFFERENT from the earlier build of key {key}")
            }
            (false, 0) => format!("{name}: first build of key {key}, nothing to compare with"),
            (false, _) => format!("{name}: identical to the earlier build of key {key}"),
        };
        stderr!("{text}");
    }
    exit
}

/// Returns the exit code of a run.
pub(super) fn exit(summary: Summary) -> Exit {
    match summary {
        Summary { interrupted: true, .. } => Exit::Interrupted,
        Summary { store_failed: true, .. } => Exit::StoreDamaged,
        Summary { failed: 0, .. } => Exit::Done,
        _ => Exit::StageFailed,
    }
}
