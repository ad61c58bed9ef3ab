//! `pipeline runs`: lists, pins and forgets the runs of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::{StoreOptions, names_manifest};
use super::stdout::{print_json, stdout};
use super::{CommandError, run_refs, store_dir};
use crate::events::{RunStatus, figures};
use crate::exit::Exit;
use crate::manifest;
use crate::report::LockSummary;
use crate::report::run_lock::FILE;
use crate::stderr::stderr;
use crate::store::{RunDir, Store, StoreError};

/// Arguments of `runs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RunsArguments {
    /// A command to run instead of listing runs.
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
    /// List the runs of this name, or all that belong to this manifest.
    #[arg(value_name = "NAME")]
    pub reference: Option<String>,
    #[command(flatten)]
    pub store: StoreOptions,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Changes to a run.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Keep a run and its outputs, whatever `cache gc --keep-runs` forgets.
    #[command(after_help = "Example: pipeline runs pin quickstart.3")]
    Pin(RunArguments),
    /// Undo `runs pin`.
    #[command(after_help = "Example: pipeline runs unpin quickstart.3")]
    Unpin(RunArguments),
    /// Remove a run, or all runs of a name; outputs that only they use are removed by the next `cache gc --keep-size`.
    #[command(after_help = "Examples:\n  pipeline runs forget trial\n  pipeline runs forget quickstart.3")]
    Forget(RunArguments),
}

/// A reference to a run.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The run: `quickstart.3`, or a name.
    #[arg(value_name = "RUN")]
    pub reference: String,
    #[command(flatten)]
    pub store: StoreOptions,
}

/// A run of the list.
struct ListedRun {
    dir: RunDir,
    /// The summary of the lock; `None` if the run has not ended.
    lock: Option<LockSummary>,
    is_running: bool,
    is_latest: bool,
    is_pinned: bool,
}

pub(super) fn run(arguments: &RunsArguments) -> Result<Exit, CommandError> {
    match &arguments.command {
        Some(RunsCommand::Pin(arguments)) => pin(arguments, true),
        Some(RunsCommand::Unpin(arguments)) => pin(arguments, false),
        Some(RunsCommand::Forget(arguments)) => forget(arguments),
        None => list(arguments),
    }
}

fn list(arguments: &RunsArguments) -> Result<Exit, CommandError> {
    let reference = arguments.reference.as_deref();
    let store = run_refs::open_store(reference.unwrap_or_default(), &arguments.store)?;
    let mut dirs = store.runs.all()?;
    if let Some(reference) = reference {
        let named = names(reference, &store)?;
        dirs.retain(|dir| named.contains(&dir.run));
    }
    if dirs.is_empty() {
        stderr!("note: the store {} has no runs", store_dir::relative(store.layout().root().to_owned()).display());
    }
    // Leases are read after the directories and before the locks: a run acquires its lease first and releases it once it has a lock.
    let running = running(&store)?;
    let (mut found, mut is_damaged) = (Vec::new(), false);
    let (mut latest, mut owners) = (BTreeMap::new(), BTreeMap::new());
    for dir in dirs {
        let (run, id) = (dir.run.clone(), dir.to_string());
        if !latest.contains_key(&run) {
            latest.insert(run.clone(), store.runs.latest(&run)?.map(|latest| latest.number));
            let owner = match store.runs.owner(&run) {
                Err(error @ StoreError::OwnerUnknown { .. }) => {
                    stderr!("warning: {error}");
                    is_damaged = true;
                    None
                }
                owner => owner?,
            };
            owners.insert(run.clone(), owner);
        }
        match run_refs::summary_of(&store, &dir) {
            Ok(lock) => found.push(ListedRun {
                is_running: lock.is_none() && running.contains(&id),
                is_latest: latest[&run] == Some(dir.number),
                is_pinned: store.runs.is_pinned(&dir),
                dir,
                lock,
            }),
            Err(StoreError::Damaged(damage)) => {
                stderr!("warning: {damage}");
                is_damaged = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let exit = if is_damaged { Exit::StoreDamaged } else { Exit::Done };
    if arguments.json {
        let run = |listed: &ListedRun| {
            let ListedRun { dir, lock, is_running, is_latest, is_pinned } = listed;
            let lock = lock.as_ref();
            json!({
                "id": dir.to_string(), "manifest": owners[&dir.run], "path": dir.path,
                "run": lock.map(|lock| &lock.run), "running": is_running, "latest": is_latest, "pinned": is_pinned,
                "ran": lock.map(|lock| lock.ran),
                "stages": lock.map(|lock| lock.stages),
            })
        };
        print_json(&found.iter().map(run).collect::<Vec<_>>())?;
        return Ok(exit);
    }
    let mut out = stdout();
    let width = found.iter().map(|listed| listed.dir.to_string().len()).max().unwrap_or(0);
    for listed in &found {
        writeln!(out, "{:width$}  {}", listed.dir.to_string(), line(listed))?;
    }
    Ok(exit)
}

fn line(listed: &ListedRun) -> String {
    let ListedRun { lock, is_running, is_latest, is_pinned, .. } = listed;
    let marks: Vec<_> =
        [("latest", is_latest), ("pinned", is_pinned)].iter().filter(|(_, is)| **is).map(|(mark, _)| *mark).collect();
    let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
    let Some(lock) = lock else {
        let status = if *is_running { "running" } else { "ended without a run.lock" };
        return status.to_owned() + &marks;
    };
    let status = match lock.run.status {
        RunStatus::Done => "done",
        RunStatus::Failed => "failed",
        RunStatus::Interrupted => "stopped",
    };
    let (ran, cached) = (lock.ran, lock.stages.saturating_sub(lock.ran));
    let took = figures::duration(lock.run.seconds);
    format!("{}  {status:7}  {ran} ran, {cached} cached in {took}{marks}", lock.run.started)
}

/// Returns the names that a reference selects: one, or those that belong to a manifest.
fn names(reference: &str, store: &Store) -> Result<BTreeSet<String>, CommandError> {
    let names = store.runs.names()?;
    if names_manifest(reference) && !names.iter().any(|name| name == reference) {
        let owned = store.runs.of_manifest(&manifest::origin(Path::new(reference)))?;
        if !owned.is_empty() {
            return Ok(owned.into_iter().collect());
        }
    }
    Ok(BTreeSet::from([run_refs::resolve(reference, store)?.run]))
}

/// Returns the runs under way, such as `quickstart.3`.
fn running(store: &Store) -> Result<BTreeSet<String>, StoreError> {
    Ok(store.leases.all()?.into_iter().map(|lease| lease.holder.task).collect())
}

fn pin(arguments: &RunArguments, pinned: bool) -> Result<Exit, CommandError> {
    let place = arguments.store.for_reference(&arguments.reference);
    let store = Store::open(&place.existing()?)?;
    let (run, number) = run_refs::parse(&arguments.reference, &store)?;
    let dir = match number {
        Some(number) => Some(store.runs.dir(&run, number)?),
        None => store.runs.latest(&run)?,
    };
    let Some(dir) = dir else {
        let error = CommandError::usage(format!("no run of '{run}' is complete"));
        return Err(error.hint(format!("select another by its number: pipeline runs {run}")));
    };
    if !dir.path.join(FILE).is_file() {
        return Err(CommandError::usage(format!("cannot pin run '{dir}': it has not ended")));
    }
    store.runs.pin(&dir, pinned)?;
    stderr!("{} {dir}", if pinned { "pinned" } else { "unpinned" });
    Ok(Exit::Done)
}

fn forget(arguments: &RunArguments) -> Result<Exit, CommandError> {
    let place = arguments.store.for_reference(&arguments.reference);
    let store = Store::open(&place.existing()?)?;
    // No run starts while this is held.
    let _removing = store.gc_guard()?;
    let (run, number) = run_refs::parse(&arguments.reference, &store)?;
    let numbers = store.runs.numbers(&run)?;
    let dirs: Vec<_> = match number {
        Some(number) => vec![store.runs.dir(&run, number)?],
        None => numbers.iter().map(|number| store.runs.dir(&run, *number)).collect::<Result<_, _>>()?,
    };
    let running = running(&store)?;
    for dir in &dirs {
        if running.contains(&dir.to_string()) {
            return Err(CommandError::usage(format!("run '{dir}' is running")));
        }
        if store.runs.is_pinned(dir) {
            let error = CommandError::usage(format!("run '{dir}' is pinned"));
            return Err(error.hint(format!("pipeline runs unpin {dir}")));
        }
    }
    match number {
        // The newest run is kept so that its number is not used again.
        Some(number) if numbers.last() == Some(&number) => {
            let error = CommandError::usage(format!("cannot forget '{run}.{number}', the newest run of its name"));
            return Err(error.hint(format!("to forget all runs of that name: pipeline runs forget {run}")));
        }
        Some(_) => dirs.iter().try_for_each(|dir| store.runs.forget(dir))?,
        None => store.runs.forget_all(&run)?,
    }
    stderr!("forgot {}", figures::counted(dirs.len() as u64, "run"));
    Ok(Exit::Done)
}
