//! `pipeline cache gc`: making room in a store.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::super::stdout::{print_json, stdout};
use super::{CommandError, StoreOptions, ago};
use crate::commands::run_refs;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::ByteSize;
use crate::report::RunLock;
use crate::report::run_lock::FILE;
use crate::stderr::stderr;
use crate::store::{Holder, Kept, Removals, RunFolder, Store, StoreError, Wish, failpoint};

/// Arguments of `cache gc`.
#[derive(Debug, Args)]
pub struct CollectArguments {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Remove builds until the blobs take no more than this: `50GiB`, or `1B` for all that may go.
    #[arg(long, value_name = "SIZE")]
    pub keep_size: Option<ByteSize>,
    /// Keep what this lock file names (repeatable); the outputs of runs of the store are kept anyway.
    #[arg(long, value_name = "FILE")]
    pub lock: Vec<PathBuf>,
    /// Forget past runs but the newest N of each name, the latest and those that are pinned, so that outputs of them
    /// alone can be removed.
    #[arg(long, value_name = "N")]
    pub keep_runs: Option<usize>,
    /// Remove also what stages that were stopped or failed left: a training among them begins again.
    #[arg(long)]
    pub scratch: bool,
    /// Only say what would go, and what making it again would cost.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &CollectArguments) -> Result<Exit, CommandError> {
    let path = arguments.store.existing()?;
    let store = if arguments.dry_run { Store::open_read_only(&path)? } else { Store::open(&path)? };
    // From here on nobody looks for an output or takes one into the store.
    let (removing, _reading) = match arguments.dry_run {
        true => (None, store.reading()),
        false => (Some(store.removing()?), None),
    };
    let (wish, forgotten) = wish(arguments, &store.as_reader())?;
    let removals = store.removals(&wish)?;
    if let Some(removing) = removing {
        // First: after a kill, the outputs by name of every run that is left exist.
        forgotten.iter().try_for_each(|run| store.forget_run(run))?;
        removing.remove(&removals)?;
    }
    let mut out = stdout();
    if !forgotten.is_empty() && !arguments.json {
        let verb = if arguments.dry_run { "would forget" } else { "forgot" };
        writeln!(out, "{verb} {}", figures::counted(forgotten.len() as u64, "past run"))?;
    }
    if arguments.json {
        print_json(&removals)?;
    } else {
        tell(&mut out, &removals, arguments.dry_run)?;
        print_kept(&mut out, &removals)?;
    }
    if removals.scratch_left.count > 0 {
        let left = figures::size(removals.scratch_left.bytes);
        stderr!("note: {left} of scratch stay, which stages that were stopped or failed left: --scratch removes it");
    }
    if wish.keep_size.is_some_and(|keep| removals.after > keep) {
        let needed = figures::size(removals.rooted);
        stderr!("note: {needed} are in use by runs, lock files or running processes, and stay");
    }
    Ok(Exit::Done)
}

/// What is to go and what is to stay, and the past runs that are to be forgotten. What is torn is told here, and moved aside
/// by a repair alone.
fn wish(arguments: &CollectArguments, store: &Store) -> Result<(Wish, Vec<RunFolder>), CommandError> {
    let mut wish =
        Wish { keep_size: arguments.keep_size.map(|size| size.0), scratch: arguments.scratch, ..Wish::default() };
    for lock in &arguments.lock {
        let lock = lock.display().to_string();
        let found = run_refs::find_lock(&lock, &arguments.store)?;
        wish.holders.push(need(Holder { name: lock, ..Holder::default() }, &found));
    }
    // Leases first: a run gives its own up when its lock is written.
    let mut running: BTreeMap<String, Holder> = BTreeMap::new();
    for lease in store.leases()? {
        let name = lease.holder_name();
        let holder = running.entry(lease.holder.stage).or_insert_with(|| Holder { name, ..Holder::default() });
        holder.trees.extend(lease.trees);
    }
    failpoint::pass(failpoint::GC_AFTER_LEASES);
    let (mut forgotten, mut torn) = (Vec::new(), Vec::new());
    let runs = store.run_folders()?;
    for run in &runs {
        let newer = runs.iter().filter(|other| other.run == run.run && other.number > run.number).count();
        let (is_pinned, is_latest) = (store.is_pinned(run), store.latest(&run.run)?.as_ref() == Some(run));
        // The newest keeps its number from being given again; one without a lock may be under way.
        let ended = run.path.join(FILE).is_file() || !running.contains_key(&run.to_string());
        let may_go = newer > 0 && ended && !is_pinned && !is_latest;
        if may_go && arguments.keep_runs.is_some_and(|keep| newer >= keep) {
            forgotten.push(run.clone());
            continue;
        }
        let mark = match (is_latest, is_pinned) {
            (true, _) => " (latest)",
            (false, true) => " (pinned)",
            (false, false) => "",
        };
        // One that is running is a holder once, as its lease has it.
        let held = running.remove(&run.to_string());
        let held = held.unwrap_or_else(|| Holder { name: format!("{run}{mark}"), ..Holder::default() });
        let mut holder = Holder { run: Some(run.run.clone()), ..held };
        match run_refs::lock_of(store, run) {
            Ok(Some(lock)) => wish.holders.push(need(holder, &lock)),
            // What it shows by name must not lead nowhere.
            Ok(None) => {
                holder.trees.extend(store.shown_trees(run)?);
                wish.holders.push(holder);
            }
            Err(StoreError::Damaged(damage)) => torn.push(damage),
            Err(error) => return Err(error.into()),
        }
    }
    wish.holders.extend(running.into_values());
    torn.extend(store.torn_last_builds()?);
    match torn.is_empty() {
        true => Ok((wish, forgotten)),
        false => Err(StoreError::Unaccountable(torn).into()),
    }
}

/// What a lock names is to stay.
fn need(mut holder: Holder, lock: &RunLock) -> Holder {
    for (tree, listing) in lock.listings() {
        holder.trees.insert(tree);
        holder.blobs.extend(listing.entries().iter().map(|entry| entry.digest));
    }
    holder
}

/// Prints which runs and lock files keep how much; of past runs those that keep something alone.
fn print_kept(out: &mut impl Write, removals: &Removals) -> Result<(), CommandError> {
    let keeping = removals.kept.iter().filter(|kept| kept.bytes > 0);
    let (mut shown, mut others): (Vec<_>, Vec<_>) = keeping.partition(|kept| kept.alone > 0 || kept.by.ends_with(')'));
    if shown.is_empty() {
        std::mem::swap(&mut shown, &mut others);
    }
    for Kept { by, bytes, alone } in shown {
        let only = match alone {
            0 => "all of it kept by others too".to_owned(),
            alone => format!("{} of it by nothing else", figures::size(*alone)),
        };
        writeln!(out, "kept {:>8}  by {by}, {only}", figures::size(*bytes))?;
    }
    if !others.is_empty() {
        writeln!(out, "and by {}, all of it kept by others too", figures::counted(others.len() as u64, "past run"))?;
    }
    Ok(())
}

fn tell(out: &mut impl Write, removals: &Removals, dry: bool) -> Result<(), CommandError> {
    let verb = if dry { "would remove" } else { "removed" };
    for build in &removals.builds {
        let (size, took) = (figures::size(build.bytes), figures::duration(build.seconds));
        let (key, age) = (build.key.short(), ago(build.started));
        writeln!(out, "{verb} {size:>8}  {:<16}  {key}  built {age} ago, {took} to build again", build.kind)?;
    }
    for (totals, what) in [
        (removals.orphans, "that no build names"),
        (removals.scratch, "of scratch"),
        (removals.derived, "of derived files, which are made again on demand"),
        (removals.aside, "moved aside as damaged"),
    ] {
        if totals.count > 0 {
            writeln!(out, "{verb} {:>8}  {what}", figures::size(totals.bytes))?;
        }
    }
    let cost: f64 = removals.builds.iter().map(|build| build.seconds).sum();
    let (before, after) = (figures::size(removals.before), figures::size(removals.after));
    let again = if cost > 0.0 { format!("; all of it again takes {}", figures::duration(cost)) } else { String::new() };
    let nothing = removals.builds.is_empty()
        && [removals.orphans, removals.scratch, removals.derived, removals.aside]
            .iter()
            .all(|totals| totals.count == 0);
    match nothing {
        true => writeln!(out, "nothing to remove: the blobs take {before}")?,
        false => writeln!(out, "{before} -> {after}{again}")?,
    }
    Ok(())
}
