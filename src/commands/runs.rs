//! `pipeline runs`: the runs that a store remembers; which of them stay, and which are forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments::{StorePlace, names_manifest};
use super::stdout::stdout;
use super::{CommandError, locks, place};
use crate::events::{RunStatus, figures};
use crate::exit::Exit;
use crate::manifest;
use crate::report::RunLock;
use crate::say::say;
use crate::store::{RunDir, Store, StoreError};

/// Arguments of `runs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RunsArguments {
    /// What to do in place of listing runs.
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
    /// Only those of this name, or those that belong to this manifest, whatever they are called.
    #[arg(value_name = "NAME")]
    pub reference: Option<String>,
    #[command(flatten)]
    pub store: StorePlace,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is done to a run.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Keep a run and its outputs, whatever `cache gc --keep-runs` forgets.
    #[command(after_help = "Example: pipeline runs pin quickstart.3")]
    Pin(RunArguments),
    /// Keep it no longer than others.
    #[command(after_help = "Example: pipeline runs unpin quickstart.3")]
    Unpin(RunArguments),
    /// Forget a run, or all runs of a name: what only they gave goes with the next `cache gc --keep-size`.
    #[command(after_help = "Examples:\n  pipeline runs forget trial\n  pipeline runs forget quickstart.3")]
    Forget(RunArguments),
}

/// One run.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The run: `quickstart.3`, or a name.
    #[arg(value_name = "RUN")]
    pub reference: String,
    #[command(flatten)]
    pub store: StorePlace,
}

/// A run with what is known of it.
struct Listed {
    folder: RunDir,
    lock: Option<RunLock>,
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
    let store = locks::open(reference.unwrap_or_default(), &arguments.store)?;
    let mut folders = store.runs.all()?;
    if let Some(reference) = reference {
        let named = names(reference, &store)?;
        folders.retain(|folder| named.contains(&folder.run));
    }
    if folders.is_empty() {
        say!("note: the store {} has no runs", place::shown(store.layout().root().to_owned()).display());
    }
    // After the folders, as a run has a lease before it has one; before the locks, as it gives that up when its lock is there.
    let running: BTreeSet<_> = store.leases.all()?.into_iter().map(|lease| lease.holder.stage).collect();
    let (mut found, mut damaged) = (Vec::new(), false);
    let (mut latest, mut owners) = (BTreeMap::new(), BTreeMap::new());
    for folder in folders {
        let (run, id) = (folder.run.clone(), folder.to_string());
        if !latest.contains_key(&run) {
            latest.insert(run.clone(), store.runs.latest(&run)?.map(|latest| latest.number));
            let owner = match store.runs.owner(&run) {
                Err(error @ StoreError::OwnerUnknown { .. }) => {
                    say!("warning: {error}");
                    damaged = true;
                    None
                }
                owner => owner?,
            };
            owners.insert(run.clone(), owner);
        }
        match locks::of_run(&store, &folder) {
            Ok(lock) => found.push(Listed {
                is_running: lock.is_none() && running.contains(&id),
                is_latest: latest[&run] == Some(folder.number),
                is_pinned: store.runs.is_pinned(&folder),
                folder,
                lock,
            }),
            Err(damage) => {
                say!("warning: {}", damage?);
                damaged = true;
            }
        }
    }
    let exit = if damaged { Exit::StoreDamaged } else { Exit::Done };
    let mut out = stdout();
    if arguments.json {
        let run = |listed: &Listed| {
            let Listed { folder, lock, is_running, is_latest, is_pinned } = listed;
            let lock = lock.as_ref();
            json!({
                "id": folder.to_string(), "manifest": owners[&folder.run], "path": folder.path,
                "run": lock.map(|lock| &lock.run), "running": is_running, "latest": is_latest, "pinned": is_pinned,
                "ran": lock.map(|lock| lock.stages.iter().filter(|stage| stage.ran).count()),
                "stages": lock.map(|lock| lock.stages.len()),
            })
        };
        writeln!(out, "{:#}", json!(found.iter().map(run).collect::<Vec<_>>()))?;
        return Ok(exit);
    }
    let width = found.iter().map(|listed| listed.folder.to_string().len()).max().unwrap_or(0);
    for listed in &found {
        writeln!(out, "{:width$}  {}", listed.folder.to_string(), line(listed))?;
    }
    Ok(exit)
}

fn line(listed: &Listed) -> String {
    let Listed { lock, is_running, is_latest, is_pinned, .. } = listed;
    let marks: Vec<_> =
        [("latest", is_latest), ("pinned", is_pinned)].iter().filter(|(_, is)| **is).map(|(mark, _)| *mark).collect();
    let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
    let Some(lock) = lock else {
        let said = if *is_running { "running" } else { "stopped before it could be written down" };
        return said.to_owned() + &marks;
    };
    let status = match lock.run.status {
        RunStatus::Done => "done",
        RunStatus::Failed => "failed",
        RunStatus::Interrupted => "stopped",
    };
    let ran = lock.stages.iter().filter(|stage| stage.ran).count();
    let cached = lock.stages.len() - ran;
    let took = figures::duration(lock.run.seconds);
    format!("{}  {status:7}  {ran} ran, {cached} cached in {took}{marks}", lock.run.started)
}

/// The names of runs that are meant: one, or those that belong to a manifest.
fn names(reference: &str, store: &Store) -> Result<BTreeSet<String>, CommandError> {
    let names = store.runs.names()?;
    if names_manifest(reference) && !names.iter().any(|name| name == reference) {
        let owned = store.runs.of_manifest(&manifest::origin(Path::new(reference)))?;
        if !owned.is_empty() {
            return Ok(owned.into_iter().collect());
        }
    }
    Ok(BTreeSet::from([locks::folder(reference, store)?.run]))
}

fn pin(arguments: &RunArguments, pinned: bool) -> Result<Exit, CommandError> {
    let place = arguments.store.for_reference(&arguments.reference);
    let store = Store::open(&place.existing()?)?;
    let (run, number) = locks::named(&arguments.reference, &store)?;
    let folder = match number {
        Some(number) => Some(store.runs.dir(&run, number)?),
        None => store.runs.latest(&run)?,
    };
    let Some(folder) = folder else {
        let error = CommandError::usage(format!("no run of '{run}' is done"));
        return Err(error.hint(format!("name one that ended in another way by its number: pipeline runs {run}")));
    };
    if !folder.path.join(locks::LOCK).is_file() {
        return Err(CommandError::usage(format!("run '{folder}' has not ended: there is nothing to keep")));
    }
    store.runs.pin(&folder, pinned)?;
    say!("{} {folder}", if pinned { "pinned" } else { "unpinned" });
    Ok(Exit::Done)
}

fn forget(arguments: &RunArguments) -> Result<Exit, CommandError> {
    let place = arguments.store.for_reference(&arguments.reference);
    let store = Store::open(&place.existing()?)?;
    // From here on no run starts.
    let _removing = store.gc_guard()?;
    let (run, number) = locks::named(&arguments.reference, &store)?;
    let numbers = store.runs.numbers(&run)?;
    let folders: Vec<_> = match number {
        Some(number) => vec![store.runs.dir(&run, number)?],
        None => numbers.iter().map(|number| store.runs.dir(&run, *number)).collect::<Result<_, _>>()?,
    };
    let running: BTreeSet<_> = store.leases.all()?.into_iter().map(|lease| lease.holder.stage).collect();
    for folder in &folders {
        if running.contains(&folder.to_string()) {
            return Err(CommandError::usage(format!("run '{folder}' is running")));
        }
        if store.runs.is_pinned(folder) {
            let error = CommandError::usage(format!("run '{folder}' is pinned"));
            return Err(error.hint(format!("pipeline runs unpin {folder}")));
        }
    }
    match number {
        // The newest keeps its number from being given again.
        Some(number) if numbers.last() == Some(&number) => {
            let error = CommandError::usage(format!("'{run}.{number}' is the newest run of its name, which stays"));
            return Err(error.hint(format!("forget all runs of that name: pipeline runs forget {run}")));
        }
        Some(_) => folders.iter().try_for_each(|folder| store.runs.forget(folder))?,
        None => store.runs.forget_all(&run)?,
    }
    say!("forgot {}", figures::counted(folders.len() as u64, "run"));
    Ok(Exit::Done)
}
