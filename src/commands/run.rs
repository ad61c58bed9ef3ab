//! `pipeline run`: brings a manifest up to date.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use contract::{Cancel, Device};

use super::CommandError;
use super::arguments::{Execution, Source};
use super::place;
use super::project::Project;
use super::signals::stop_on_signals;
use crate::events::{Mode, Purpose};
use crate::exit::Exit;
use crate::manifest::{self, StageName};
use crate::plan::Decider;
use crate::report::KeptRun;
use crate::run::{Budget, Given, Options, Outcome, Summary};
use crate::say::say;
use crate::store::{RunDir, Store, StoreError};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub source: Source,
    #[command(flatten)]
    pub execution: Execution,
    /// Show failures and warnings only.
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Print the events, one JSON object a line, to standard output.
    #[arg(long)]
    pub json: bool,
    /// Stop after this stage: run it and what it needs (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Run this stage even if its output is in the store (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Run this stage, or `all`, again and compare with what it gave before; exit code 3 where it differs (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub check: Vec<String>,
    /// Carry on the runs of this name though they belong to another manifest, as after the project was moved.
    #[arg(long)]
    pub adopt: bool,
    /// After a failure, go on with every stage that does not need the failed one (the default).
    #[arg(long, overrides_with = "fail_fast")]
    pub keep_going: bool,
    /// After a failure, start no further stage; those that run are finished.
    #[arg(long, overrides_with = "keep_going")]
    pub fail_fast: bool,
}

pub(super) fn run(arguments: &RunArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.source)?;
    let wanted = project.wanted(&arguments.until)?;
    let checked = match arguments.check.iter().any(|stage| stage == "all") {
        true => wanted.clone(),
        false => project.stages(&arguments.check)?,
    };
    let mut forced = project.stages(&arguments.force)?;
    forced.extend(checked.iter().cloned());
    if let Some(stage) = forced.iter().find(|stage| !wanted.contains(*stage)) {
        return Err(CommandError::usage(format!("'{stage}' is forced or checked, and no stage of --until needs it")));
    }
    let budget = match budget(&arguments.execution, &project, &wanted) {
        // What is cached needs no device.
        Err(absent) => {
            let store = Store::open_read_only(&project.cache)?;
            let stale = project.plan(&Decider::new(&project.manifest, &store, &forced), &wanted)?.stale();
            budget(&arguments.execution, &project, &stale).map_err(|_| absent)?
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
    let options = Options { budget, fail_fast: arguments.fail_fast, wanted, given: Given::new(), cancel };
    let shown = vec![Mode::choose(arguments.json, arguments.quiet).renderer()];
    let KeptRun { folder, outcome, lost, written, .. } =
        KeptRun::of(decider, &project.manifest.graph, &options, shown)?;
    if let Err(error) = &written {
        say!("warning: the run is not written down: {error}");
    }
    if let Some(folder) = folder.filter(|_| !arguments.json && !arguments.quiet) {
        tell_place(&store, folder)?;
    }
    let checks = tell_checks(&outcome, &checked);
    let exit = match exit(outcome.summary) {
        Exit::Done if written.is_err() => Exit::StoreDamaged,
        // All is done; who asked for the events has not got them.
        Exit::Done if lost.contains(&Purpose::Printed) => Exit::StageFailed,
        Exit::Done => checks,
        exit => exit,
    };
    // The process ends now. To free what is known of a thousand stages piece by piece takes longer than to look at them.
    std::mem::forget((project, outcome, store));
    Ok(exit)
}

/// Opens the store for a run. One that cannot be written is enough for a run that finds all of its stages in it, which is then
/// not recorded.
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
                say!("note: new store {}", project.cache.display());
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
    say!("warning: the run is not recorded: {refusal}");
    Ok(store)
}

/// Prints where the outputs of a run are, where `latest` does not lead to them: it failed, was stopped or asked for less, or
/// a later run was quicker.
fn tell_place(store: &Store, folder: RunDir) -> Result<(), CommandError> {
    let latest = store.runs.latest(&folder.run)?;
    if latest.as_ref() != Some(&folder) {
        let latest = latest.map(|latest| format!("; `latest` leads to those of {latest}")).unwrap_or_default();
        say!("note: the outputs of this run are in {}{latest}", place::shown(folder.path).display());
    }
    Ok(())
}

/// Says what came of the stages that were to be checked.
fn tell_checks(outcome: &Outcome, checked: &BTreeSet<StageName>) -> Exit {
    let mut exit = Exit::Done;
    for name in checked {
        let Some(stage) = outcome.stages.get(name) else { continue };
        let key = stage.record.key.short();
        let text = match (stage.differs, stage.earlier) {
            (true, _) => {
                exit = Exit::Differs;
                format!("{name}: DIFFERENT from the earlier build of key {key}")
            }
            (false, 0) => format!("{name}: built for the first time, nothing to compare with (key {key})"),
            (false, _) => format!("{name}: identical to the earlier build of key {key}"),
        };
        say!("{text}");
    }
    exit
}

/// The command line, else `[exec]`, else the machine. A device that a wanted stage needs must be there.
pub(super) fn budget(
    execution: &Execution,
    project: &Project,
    wanted: &BTreeSet<StageName>,
) -> Result<Budget, CommandError> {
    let mut exec = project.manifest.exec.clone();
    exec.threads = execution.threads.or(exec.threads);
    exec.jobs = execution.jobs.or(exec.jobs);
    exec.device = execution.device.or(exec.device);
    let budget = Budget::of(&exec);
    let device = usable(budget.device, project, wanted)?;
    Ok(Budget { device, allow_oversize: execution.allow_oversize, ..budget })
}

/// The device that a wanted stage will use, which must be there: that is told before hours of data stages, not after.
pub(super) fn usable<'n>(
    device: Device,
    project: &Project,
    wanted: impl IntoIterator<Item = &'n StageName>,
) -> Result<Device, CommandError> {
    match wanted.into_iter().any(|stage| project.manifest.stages[stage].stage.needs().gpu) {
        true => model::device::chosen(device)
            .map_err(|error| CommandError::usage(error.to_string()).hint("--device cpu, or [exec] device = \"cpu\"")),
        false => Ok(device),
    }
}

/// How the program ends for how a run ended.
pub(super) fn exit(summary: Summary) -> Exit {
    match summary {
        Summary { interrupted: true, .. } => Exit::Interrupted,
        Summary { store_failed: true, .. } => Exit::StoreDamaged,
        Summary { failed: 0, skipped: 0, .. } => Exit::Done,
        _ => Exit::StageFailed,
    }
}
