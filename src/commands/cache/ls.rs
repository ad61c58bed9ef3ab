//! `pipeline cache ls`: every build of a store.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use contract::Digest;
use serde_json::json;

use super::super::stdout::{print_json, stdout};
use super::users::Users;
use super::{CommandError, StoreOptions};
use crate::clock;
use crate::commands::{run_refs, store_dir};
use crate::events::figures;
use crate::exit::Exit;
use crate::stderr::stderr;
use crate::store::{Record, Store, StoreError, Totals, milliseconds};

/// Arguments of `cache ls`.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ListArguments) -> Result<Exit, CommandError> {
    let store = Store::open_read_only(&arguments.store.existing()?)?;
    if store.is_empty() {
        stderr!("note: the store {} is empty", store_dir::relative(store.layout().root().to_owned()).display());
    }
    let inventory = store.inventory()?;
    let mut users = Users::default();
    for run in store.runs.all()? {
        match run_refs::lock_of(&store, &run) {
            Ok(lock) => lock.iter().for_each(|lock| users.add(&run, lock)),
            // `cache verify` reports it.
            Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let users = users.with_last_builds(&inventory);
    let [blobs, scratch, derived] = [
        inventory.blobs.values().collect::<Totals>(),
        inventory.scratch.values().collect(),
        inventory.derived.values().collect(),
    ];
    let aside = inventory.all_aside();
    if arguments.json {
        let build = |((key, number), record): (&(Digest, u32), &Record)| {
            let bytes = inventory.bytes_of(&inventory.blobs_of(record.outputs.values()));
            json!({
                "key": key, "build": number, "kind": record.kind, "started_ms": record.started,
                "seconds": record.seconds, "bytes": bytes, "outputs": record.outputs,
                "stages": users.get(key).cloned().unwrap_or_default(),
            })
        };
        let builds: Vec<_> = inventory.builds.iter().map(build).collect();
        let totals = json!({ "blobs": blobs, "scratch": scratch, "aside": aside, "derived": derived });
        return Ok(print_json(&json!({ "builds": builds, "totals": totals }))?);
    }
    let mut out = stdout();
    let mut builds: Vec<_> = inventory.builds.iter().collect();
    builds.sort_by_key(|(_, record)| record.started);
    writeln!(out, "{:12}  {:<16}  {:>8}  {:>8}  {:>8}  used by", "key", "kind", "built", "took", "size")?;
    for ((key, _), record) in builds {
        let size = figures::size(inventory.bytes_of(&inventory.blobs_of(record.outputs.values())));
        let used = users.get(key).map_or("no run".to_owned(), |stages| stages.join(", "));
        let (age, took) = (ago(record.started), figures::duration(record.seconds));
        writeln!(out, "{}  {:<16}  {age:>8}  {took:>8}  {size:>8}  {used}", key.short(), record.kind)?;
    }
    writeln!(
        out,
        "{} of {}, {} in {}",
        figures::counted(inventory.builds.len() as u64, "build"),
        figures::counted(inventory.builds.keys().map(|(key, _)| key).collect::<BTreeSet<_>>().len() as u64, "key"),
        figures::size(blobs.bytes),
        figures::counted(blobs.count, "blob"),
    )?;
    for (totals, what) in [
        (scratch, "of scratch of stopped stages"),
        (derived, "of derived files"),
        (aside, "of damaged objects, moved aside"),
    ] {
        if totals.count > 0 {
            writeln!(out, "{} {what}", figures::size(totals.bytes))?;
        }
    }
    inventory.damage.iter().try_for_each(|damage| writeln!(out, "damaged: {damage}"))?;
    Ok(if inventory.damage.is_empty() { Exit::Done } else { Exit::StoreDamaged })
}

/// Formats an age: `3 min`, `2 h`, `5 d`.
pub(super) fn ago(started: u64) -> String {
    figures::age(milliseconds(clock::now()).saturating_sub(started) / 1000)
}
