//! `pipeline status`: the running processes of a store, and the keys whose builds differ.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::arguments::StoreOptions;
use super::stdout::{print_json, stdout};
use super::{CommandError, store_dir};
use crate::events::figures;
use crate::exit::Exit;
use crate::stderr::stderr;
use crate::store::{LeaseInfo, LockHolder, Store};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &StatusArguments) -> Result<Exit, CommandError> {
    let store = Store::open_read_only(&arguments.store.existing()?)?;
    let runs = store.leases.all()?;
    let building = store.work.holders()?;
    let ledger = store.builds.ledger()?;
    if arguments.json {
        let run = |lease: &LeaseInfo| {
            let (name, number) = lease.run();
            let LockHolder { pid, host, since, .. } = &lease.holder;
            json!({ "pid": pid, "host": host, "stage": name, "number": number, "since": since })
        };
        let runs: Vec<_> = runs.iter().map(run).collect();
        let building: Vec<_> = building.iter().map(|(key, holder)| json!({ "key": key, "holder": holder })).collect();
        return Ok(print_json(&json!({ "runs": runs, "building": building, "not_deterministic": ledger }))?);
    }
    let mut out = stdout();
    if store.is_empty() {
        stderr!("note: the store {} is empty", store_dir::relative(store.layout().root().to_owned()).display());
    }
    if runs.is_empty() && building.is_empty() {
        writeln!(out, "nothing is running")?;
    }
    for lease in &runs {
        writeln!(out, "run {}: {}", lease.holder.task, lease.holder.process())?;
    }
    for (key, holder) in &building {
        match holder {
            Some(holder) => writeln!(out, "  {}  key {}: {}", holder.task, key.short(), holder.process())?,
            None => writeln!(out, "  key {}: an unknown process", key.short())?,
        }
    }
    for entry in &ledger {
        let stage = if entry.stage.is_empty() { String::new() } else { format!(" ({}/{})", entry.run, entry.stage) };
        writeln!(
            out,
            "not deterministic: {}{stage}, key {}: {} with {}",
            entry.kind,
            entry.key.short(),
            figures::counted(entry.builds as u64, "build"),
            figures::counted(entry.distinct as u64, "different output")
        )?;
    }
    Ok(Exit::Done)
}
