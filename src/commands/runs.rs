//! `pipeline runs`: the runs that a store remembers.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use serde_json::json;

use super::arguments::StorePlace;
use super::stdout::stdout;
use super::{CommandError, locks, place};
use crate::events::{RunStatus, figures};
use crate::exit::Exit;
use crate::say::say;

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArguments {
    /// Only those of this name, or of this manifest.
    #[arg(value_name = "NAME")]
    pub reference: Option<String>,
    #[command(flatten)]
    pub store: StorePlace,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &RunsArguments) -> Result<Exit, CommandError> {
    let reference = arguments.reference.as_deref();
    let store = locks::open(reference.unwrap_or_default(), &arguments.store)?;
    let mut folders = store.run_folders()?;
    if let Some(reference) = reference {
        let named = locks::folder(reference, &store)?.run;
        folders.retain(|folder| folder.run == named);
    }
    if folders.is_empty() {
        say!("note: the store {} has no runs", place::shown(store.layout().root().to_owned()).display());
    }
    // After the folders, as a run has a lease before it has one; before the locks, as it gives that up when its lock is there.
    let running: BTreeSet<_> = store.leases()?.into_iter().map(|lease| lease.holder.stage).collect();
    let (mut found, mut damaged) = (Vec::new(), false);
    for folder in &folders {
        match locks::of_run(&store, folder) {
            Ok(lock) => found.push((folder.to_string(), lock)),
            Err(damage) => {
                say!("warning: {}", damage?);
                damaged = true;
            }
        }
    }
    let exit = if damaged { Exit::StoreDamaged } else { Exit::Done };
    let mut out = stdout();
    if arguments.json {
        let run = |(id, lock): &(String, Option<crate::report::RunLock>)| {
            let ran = lock.as_ref().map(|lock| lock.stages.iter().filter(|stage| stage.ran).count());
            json!({ "id": id, "run": lock.as_ref().map(|lock| &lock.run), "ran": ran,
                "running": lock.is_none() && running.contains(id),
                "stages": lock.as_ref().map(|lock| lock.stages.len()) })
        };
        writeln!(out, "{:#}", json!(found.iter().map(run).collect::<Vec<_>>()))?;
        return Ok(exit);
    }
    let width = found.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
    for (id, lock) in &found {
        let Some(lock) = lock else {
            let said = match running.contains(id) {
                true => "running",
                false => "stopped before it could be written down",
            };
            writeln!(out, "{id:width$}  {said}")?;
            continue;
        };
        let status = match lock.run.status {
            RunStatus::Done => "done",
            RunStatus::Failed => "failed",
            RunStatus::Interrupted => "stopped",
        };
        let ran = lock.stages.iter().filter(|stage| stage.ran).count();
        let cached = lock.stages.len() - ran;
        let took = figures::duration(lock.run.seconds);
        writeln!(out, "{id:width$}  {}  {status:7}  {ran} ran, {cached} cached in {took}", lock.run.started)?;
    }
    Ok(exit)
}
