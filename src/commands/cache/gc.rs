//! `pipeline cache gc`: removes unreferenced data and builds from a store.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::super::stdout::{print_json, stdout};
use super::ls::ago;
use super::{CommandError, StoreOptions};
use crate::commands::run_refs;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::ByteSize;
use crate::report::RunLock;
use crate::report::run_lock::FILE;
use crate::stderr::stderr;
use crate::store::{GcOptions, GcRoot, Removals, Retained, RunDir, Store, StoreError, failpoint};

/// Arguments of `cache gc`.
#[derive(Debug, Args)]
pub struct CollectArguments {
    #[command(flatten)]
    pub store: StoreOptions,
    /// Remove builds until the blobs take no more than this: `50GiB`, or `1B` to remove everything that is removable.
    #[arg(long, value_name = "SIZE")]
    pub keep_size: Option<ByteSize>,
    /// Keep the outputs that this lock file names (repeatable); the outputs of the store's runs are kept anyway.
    #[arg(long, value_name = "FILE")]
    pub lock: Vec<PathBuf>,
    /// Forget past runs except the newest N of each name, the latest and pinned ones, so that their outputs can be removed.
    #[arg(long, value_name = "N")]
    pub keep_runs: Option<usize>,
    /// Also remove the scratch of stopped and failed stages, which then restart from the beginning.
    #[arg(long)]
    pub scratch: bool,
    /// Only print what would be removed, and how long it would take to rebuild.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &CollectArguments) -> Result<Exit, CommandError> {
    let path = arguments.store.existing()?;
    let store = if arguments.dry_run { Store::open_read_only(&path)? } else { Store::open(&path)? };
    // While the guard is held no process looks for an output or adopts one.
    let (gc, _guard) = match arguments.dry_run {
        true => (None, Some(store.leases.guard()?)),
        false => (Some(store.gc_guard()?), None),
    };
    let (options, forgotten) = options(arguments, &store.as_reader())?;
    let removals = store.removals(&options)?;
    if let Some(gc) = gc {
        // Published first, so that after a kill every remaining run still has its outputs by name.
        forgotten.iter().try_for_each(|run| store.runs.forget(run))?;
        gc.remove(&removals)?;
    }
    let mut out = stdout();
    if arguments.json {
        print_json(&removals)?;
    } else {
        if !forgotten.is_empty() {
            let verb = if arguments.dry_run { "would forget" } else { "forgot" };
            writeln!(out, "{verb} {}", figures::counted(forgotten.len() as u64, "past run"))?;
        }
        print_removals(&mut out, &removals, arguments.dry_run)?;
        print_retained(&mut out, &removals)?;
    }
    if removals.scratch_left.count > 0 {
        let left = figures::size(removals.scratch_left.bytes);
        stderr!("note: kept {left} of scratch of stopped and failed stages: --scratch removes it");
    }
    if options.keep_size.is_some_and(|keep| removals.after > keep) {
        let needed = figures::size(removals.rooted);
        stderr!("note: kept {needed}, in use by runs, lock files or running processes");
    }
    Ok(Exit::Done)
}

/// Returns what to remove and what to keep, and the past runs to forget. Damaged files are reported; only a repair moves them.
fn options(arguments: &CollectArguments, store: &Store) -> Result<(GcOptions, Vec<RunDir>), CommandError> {
    let mut roots = Vec::new();
    for lock in &arguments.lock {
        let lock = lock.display().to_string();
        let found = run_refs::find_lock(&lock, &arguments.store)?;
        roots.push(with_lock(GcRoot::named(lock), &found));
    }
    // Leases first: a run drops its lease when its lock is written.
    let mut running: BTreeMap<String, GcRoot> = BTreeMap::new();
    for lease in store.leases.all()? {
        let name = lease.holder_name();
        let root = running.entry(lease.holder.task).or_insert_with(|| GcRoot::named(name));
        root.trees.extend(lease.trees);
    }
    failpoint::pass(failpoint::GC_AFTER_LEASES);
    let (mut forgotten, mut damaged) = (Vec::new(), Vec::new());
    let runs = store.runs.all()?;
    for run in &runs {
        let newer = runs.iter().filter(|other| other.run == run.run && other.number > run.number).count();
        let (is_pinned, is_latest) = (store.runs.is_pinned(run), store.runs.latest(&run.run)?.as_ref() == Some(run));
        // The newest run is kept so that its number is not reused; one without a lock may be running.
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
        // A run that has a lease is one root.
        let root = running.remove(&run.to_string()).unwrap_or_else(|| GcRoot::named(format!("{run}{mark}")));
        let mut root = GcRoot { run: Some(run.run.clone()), ..root };
        match run_refs::lock_of(store, run) {
            Ok(Some(lock)) => roots.push(with_lock(root, &lock)),
            // The links to its outputs by name must not dangle.
            Ok(None) => {
                root.trees.extend(store.runs.published_trees(run)?);
                roots.push(root);
            }
            Err(StoreError::Damaged(damage)) => damaged.push(damage),
            Err(error) => return Err(error.into()),
        }
    }
    roots.extend(running.into_values());
    damaged.extend(store.builds.damaged_last_builds()?);
    if !damaged.is_empty() {
        return Err(StoreError::Unaccountable(damaged).into());
    }
    let keep_size = arguments.keep_size.map(|size| size.0);
    Ok((GcOptions { keep_size, roots, scratch: arguments.scratch }, forgotten))
}

/// Adds the outputs that a lock names to a root.
fn with_lock(mut root: GcRoot, lock: &RunLock) -> GcRoot {
    for (tree, listing) in lock.listings() {
        root.trees.insert(tree);
        root.blobs.extend(listing.entries().iter().map(|entry| entry.digest));
    }
    root
}

/// Prints how much each run and lock file keeps; past runs are listed only if they alone keep some data.
fn print_retained(out: &mut impl Write, removals: &Removals) -> Result<(), CommandError> {
    let keeping = removals.kept.iter().filter(|kept| kept.bytes > 0);
    let (mut shown, mut others): (Vec<_>, Vec<_>) = keeping.partition(|kept| kept.alone > 0 || kept.by.ends_with(')'));
    if shown.is_empty() {
        std::mem::swap(&mut shown, &mut others);
    }
    for Retained { by, bytes, alone } in shown {
        let only = match alone {
            0 => "all of it shared with others".to_owned(),
            alone => format!("{} of it by nothing else", figures::size(*alone)),
        };
        writeln!(out, "kept {:>8}  by {by}, {only}", figures::size(*bytes))?;
    }
    if !others.is_empty() {
        writeln!(out, "and by {}, all of it shared with others", figures::counted(others.len() as u64, "past run"))?;
    }
    Ok(())
}

fn print_removals(out: &mut impl Write, removals: &Removals, dry: bool) -> Result<(), CommandError> {
    let verb = if dry { "would remove" } else { "removed" };
    for build in &removals.builds {
        let (size, took) = (figures::size(build.bytes), figures::duration(build.seconds));
        let (key, age) = (build.key.short(), ago(build.started));
        writeln!(out, "{verb} {size:>8}  {:<16}  {key}  built {age} ago, {took} to rebuild", build.kind)?;
    }
    for (totals, what) in [
        (removals.orphans, "of unreferenced blobs"),
        (removals.scratch, "of scratch"),
        (removals.derived, "of derived files, which are recomputed on demand"),
        (removals.aside, "of damaged objects, moved aside"),
    ] {
        if totals.count > 0 {
            writeln!(out, "{verb} {:>8}  {what}", figures::size(totals.bytes))?;
        }
    }
    let cost: f64 = removals.builds.iter().map(|build| build.seconds).sum();
    let (before, after) = (figures::size(removals.before), figures::size(removals.after));
    let again =
        if cost > 0.0 { format!("; rebuilding all of it takes {}", figures::duration(cost)) } else { String::new() };
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
