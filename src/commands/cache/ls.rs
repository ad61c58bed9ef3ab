//! `pipeline cache ls`: every build of a store.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use contract::Digest;
use serde_json::json;

use super::super::stdout::{print_json, stdout};
use super::users::Users;
use super::{CommandError, StoreOptions, ago};
use crate::commands::{run_refs, store_dir};
use crate::events::figures;
use crate::exit::Exit;
use crate::stderr::stderr;
use crate::store::{Store, StoreError};

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
    let census = store.census()?;
    let mut users = Users::default();
    for run in store.run_folders()? {
        match run_refs::lock_of(&store, &run) {
            Ok(lock) => lock.iter().for_each(|lock| users.add(&run, lock)),
            // `cache verify` reports it.
            Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let users = users.with_last_builds(&census);
    if arguments.json {
        let build = |((key, number), record): (&(Digest, u32), &crate::store::Record)| {
            let bytes = census.bytes_of(&census.blobs_of(record.outputs.values()));
            json!({
                "key": key, "build": number, "kind": record.kind, "started_ms": record.started,
                "seconds": record.seconds, "bytes": bytes, "outputs": record.outputs,
                "stages": users.get(key).cloned().unwrap_or_default(),
            })
        };
        let builds: Vec<_> = census.builds.iter().map(build).collect();
        let totals = json!({
            "blobs": census.all_blobs(),
            "scratch": census.all_scratch(),
            "aside": census.all_aside(),
            "derived": census.all_derived(),
        });
        return Ok(print_json(&json!({ "builds": builds, "totals": totals }))?);
    }
    let mut out = stdout();
    let mut builds: Vec<_> = census.builds.iter().collect();
    builds.sort_by_key(|(_, record)| record.started);
    writeln!(out, "{:12}  {:<16}  {:>8}  {:>8}  {:>8}  used by", "key", "kind", "built", "took", "size")?;
    for ((key, _), record) in builds {
        let size = figures::size(census.bytes_of(&census.blobs_of(record.outputs.values())));
        let used = users.get(key).map_or("no run".to_owned(), |stages| stages.join(", "));
        let (age, took) = (ago(record.started), figures::duration(record.seconds));
        writeln!(out, "{}  {:<16}  {age:>8}  {took:>8}  {size:>8}  {used}", key.short(), record.kind)?;
    }
    let blobs = census.all_blobs();
    writeln!(
        out,
        "{} of {}, {} in {}",
        figures::counted(census.builds.len() as u64, "build"),
        figures::counted(census.builds.keys().map(|(key, _)| key).collect::<BTreeSet<_>>().len() as u64, "key"),
        figures::size(blobs.bytes),
        figures::counted(blobs.count, "blob"),
    )?;
    for (totals, what) in [
        (census.all_scratch(), "scratch of stages that were stopped"),
        (census.all_derived(), "of derived files: tables as programs read them"),
        (census.all_aside(), "moved aside as damaged"),
    ] {
        if totals.count > 0 {
            writeln!(out, "{} {what}", figures::size(totals.bytes))?;
        }
    }
    census.damage.iter().try_for_each(|damage| writeln!(out, "damaged: {damage}"))?;
    Ok(if census.damage.is_empty() { Exit::Done } else { Exit::StoreDamaged })
}
