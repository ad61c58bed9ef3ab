//! `pipeline cache verify`: reads everything in a store, and repairs it with `--repair`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use contract::Digest;
use serde_json::json;

use super::super::stdout::{print_json, stdout};
use super::users::Users;
use super::{CommandError, StoreOptions};
use crate::commands::hashing::hash_progress;
use crate::commands::run_refs;
use crate::commands::signals::stop_on_signals;
use crate::events::figures;
use crate::exit::Exit;
use crate::stderr::stderr;
use crate::store::{Damage, Store, StoreError};

/// Arguments of `cache verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Move damaged objects aside, so that the next run rebuilds them; restore lists of files from lock files.
    #[arg(long)]
    pub repair: bool,
    /// Restore lists of files from this lock file too (repeatable); the locks of the store's runs are always used.
    #[arg(long, value_name = "FILE", requires = "repair")]
    pub lock: Vec<PathBuf>,
    /// Print one JSON object: `builds`, `blobs`, `bytes`, `damage`, `restored`, `not_whole`.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &VerifyArguments) -> Result<Exit, CommandError> {
    let path = arguments.store.existing()?;
    let store = if arguments.repair { Store::open_to_repair(&path)? } else { Store::open_read_only(&path)? };
    let cancel = stop_on_signals()?;
    let mut known = BTreeMap::new();
    for lock in &arguments.lock {
        known.extend(run_refs::read_lock(lock)?.listings());
    }
    let mut users = Users::default();
    // First, because a file in place of a directory prevents the directory from being read.
    let mut damage = store.misplaced()?;
    for run in store.runs.all()? {
        match run_refs::lock_of(&store, &run) {
            Ok(None) => {}
            Ok(Some(lock)) => {
                users.add(&run, &lock);
                known.extend(lock.listings());
            }
            Err(StoreError::Damaged(found)) => damage.push(found),
            Err(error) => return Err(error.into()),
        }
        damage.extend(run_refs::events_damage(&store, &run)?);
    }
    damage.extend(store.builds.damaged_last_builds()?);
    let hashing = hash_progress("hashing the store");
    let verification = store.verify_all(&known, |bytes| {
        hashing.inc(bytes);
        !cancel.is_set()
    })?;
    drop(hashing);
    damage.extend(verification.damage);
    let users = users.with_last_builds(&verification.inventory);
    let exit = if damage.is_empty() || arguments.repair { Exit::Done } else { Exit::StoreDamaged };
    if arguments.json {
        let damaged = |damage: &Damage| json!({ "text": damage.to_string(), "moved_to": damage.aside });
        let not_whole =
            |(key, number): &(Digest, u32)| json!({ "key": key, "build": number, "used_by": users.get(key) });
        let report = json!({
            "builds": verification.inventory.builds.len(), "blobs": verification.blobs, "bytes": verification.bytes,
            "damage": damage.iter().map(damaged).collect::<Vec<_>>(), "restored": verification.restored,
            "not_whole": verification.builds.iter().map(not_whole).collect::<Vec<_>>(),
        });
        print_json(&report)?;
        return Ok(exit);
    }
    let mut out = stdout();
    let aside = |damage: &Damage| damage.aside.as_ref().map(|path| format!(", moved to {}", path.display()));
    for damage in &damage {
        writeln!(out, "damaged: {damage}{}", aside(damage).unwrap_or_default())?;
    }
    for tree in &verification.restored {
        writeln!(out, "restored: tree {} from a lock file", tree.short())?;
    }
    for (key, number) in &verification.builds {
        let kind = verification.inventory.builds.get(&(*key, *number)).map_or("", |record| record.kind.as_str());
        let used = users.get(key).map(|stages| format!(", used by {}", stages.join(", "))).unwrap_or_default();
        writeln!(out, "incomplete: build {number} of {} ({kind}){used}", key.short())?;
    }
    let what = format!(
        "{} and {} of {} read",
        figures::counted(verification.inventory.builds.len() as u64, "build"),
        figures::counted(verification.blobs, "blob"),
        figures::size(verification.bytes)
    );
    let count = figures::counted(damage.len() as u64, "object");
    match (damage.len(), arguments.repair) {
        (0, _) => writeln!(out, "{what}: no damage")?,
        (_, true) => writeln!(out, "{what}: {count} damaged and moved aside; the next run rebuilds what it needs")?,
        (_, false) => writeln!(out, "{what}: {count} damaged")?,
    }
    if exit == Exit::StoreDamaged {
        stderr!("hint: --repair moves damaged objects aside; the next run rebuilds what it needs");
    }
    Ok(exit)
}
