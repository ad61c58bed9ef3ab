//! `pipeline cache ls | verify | gc`: the care of a store. They need no manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use contract::Digest;
use serde_json::json;

use super::CommandError;
use super::hashing::Hashing;
use super::locks;
use super::run::LOCK;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::ByteSize;
use crate::store::{Census, Removals, Store, Wish};

/// Arguments of `cache`.
#[derive(Debug, Args)]
pub struct CacheArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The care of a store.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List every build with its key, age, cost, size and who uses it.
    #[command(after_help = "Example: pipeline cache ls --json")]
    Ls(ListArguments),
    /// Hash every blob and read every tree and record; exit code 4 when something is damaged.
    #[command(after_help = "Example: pipeline cache verify --repair")]
    Verify(VerifyArguments),
    /// Remove what nothing needs; with --keep-size also builds, the cheapest to make again for their bytes first.
    #[command(after_help = "Examples:\n  pipeline cache gc --keep-size 50GiB --dry-run\n  \
        pipeline cache gc --keep-size 50GiB --keep-runs 3 --lock published.lock\n\n\
        What the runs gave, what lock files name, and what a running process uses, is never removed.")]
    Gc(CollectArguments),
}

/// Arguments of `cache ls`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// The store [default: $PIPELINE_CACHE, else ./cache].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `cache verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The store [default: $PIPELINE_CACHE, else ./cache].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Move what is damaged aside, so that the next run rebuilds it.
    #[arg(long)]
    pub repair: bool,
}

/// Arguments of `cache gc`.
#[derive(Debug, Args)]
pub struct CollectArguments {
    /// The store [default: $PIPELINE_CACHE, else ./cache].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Remove builds until the blobs take no more than this: `50GiB`, or `1B` for all that may go.
    #[arg(long, value_name = "SIZE")]
    pub keep_size: Option<ByteSize>,
    /// Keep what this lock file names (repeatable); what the runs of the store gave is kept anyway.
    #[arg(long, value_name = "FILE")]
    pub lock: Vec<PathBuf>,
    /// Forget past runs but the newest N of each name, so that what only they gave may go.
    #[arg(long, value_name = "N")]
    pub keep_runs: Option<usize>,
    /// Only say what would go, and what making it again would cost.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &CacheArguments) -> Result<Exit, CommandError> {
    match &arguments.command {
        CacheCommand::Ls(list) => ls(list),
        CacheCommand::Verify(arguments) => verify(arguments),
        CacheCommand::Gc(arguments) => gc(arguments),
    }
}

/// The store of `--cache`, else `$PIPELINE_CACHE`, else `./cache`; one must be there.
fn place(cache: Option<&PathBuf>) -> Result<PathBuf, CommandError> {
    let path = super::project::cache_place(cache.cloned(), None);
    if path.join("version").exists() {
        return Ok(path);
    }
    Err(CommandError::usage(format!("there is no store at {}", path.display())).hint("name it with --cache DIR"))
}

fn ls(arguments: &ListArguments) -> Result<Exit, CommandError> {
    let store = Store::open_read_only(&place(arguments.cache.as_ref())?)?;
    let census = store.census()?;
    let users = users(&census);
    let mut out = anstream::stdout().lock();
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
        });
        writeln!(out, "{:#}", json!({ "builds": builds, "totals": totals }))?;
        return Ok(Exit::Done);
    }
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
    for (totals, what) in
        [(census.all_scratch(), "scratch of stages that were stopped"), (census.all_aside(), "moved aside as damaged")]
    {
        if totals.count > 0 {
            writeln!(out, "{} {what}", figures::size(totals.bytes))?;
        }
    }
    census.damage.iter().try_for_each(|damage| writeln!(out, "damaged: {damage}"))?;
    Ok(if census.damage.is_empty() { Exit::Done } else { Exit::StoreDamaged })
}

/// The stages of runs whose last build has a key, as `run/stage`.
fn users(census: &Census) -> BTreeMap<Digest, Vec<String>> {
    let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (run, stages) in &census.runs {
        for (stage, last) in stages {
            users.entry(last.key).or_default().push(format!("{run}/{stage}"));
        }
    }
    users
}

/// `3 min`, `2 h`, `5 d` before now.
fn ago(started: u64) -> String {
    let now = crate::store::milliseconds(std::time::SystemTime::now());
    match now.saturating_sub(started) / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn verify(arguments: &VerifyArguments) -> Result<Exit, CommandError> {
    let path = place(arguments.cache.as_ref())?;
    let store = if arguments.repair { Store::open(&path)? } else { Store::open_read_only(&path)? };
    let mut hashing = Hashing::start("hashing the store");
    let verdict = store.verify_all(|bytes| {
        hashing.add(bytes);
        true
    })?;
    drop(hashing);
    let users = users(&verdict.census);
    let mut out = anstream::stdout().lock();
    for damage in &verdict.damage {
        let aside = damage.aside.as_ref().map(|path| format!(", moved to {}", path.display())).unwrap_or_default();
        writeln!(out, "damaged: {damage}{aside}")?;
    }
    for (key, number) in &verdict.builds {
        let kind = verdict.census.builds.get(&(*key, *number)).map_or("", |record| record.kind.as_str());
        let used = users.get(key).map(|stages| format!(", used by {}", stages.join(", "))).unwrap_or_default();
        writeln!(out, "not whole: build {number} of {} ({kind}){used}", key.short())?;
    }
    let what = format!(
        "{} and {} of {} read",
        figures::counted(verdict.census.builds.len() as u64, "build"),
        figures::counted(verdict.blobs, "blob"),
        figures::size(verdict.bytes)
    );
    match (verdict.damage.len() as u64, arguments.repair) {
        (0, _) => writeln!(out, "{what}: all whole")?,
        (count, true) => {
            let count = figures::counted(count, "object");
            writeln!(out, "{what}: {count} damaged and out of the way; the next run rebuilds what it needs")?;
        }
        (count, false) => writeln!(out, "{what}: {} damaged", figures::counted(count, "object"))?,
    }
    if verdict.damage.is_empty() || arguments.repair {
        return Ok(Exit::Done);
    }
    anstream::eprintln!("hint: --repair moves it aside; the next run rebuilds what it needs");
    Ok(Exit::StoreDamaged)
}

fn gc(arguments: &CollectArguments) -> Result<Exit, CommandError> {
    let path = place(arguments.cache.as_ref())?;
    let store = if arguments.dry_run { Store::open_read_only(&path)? } else { Store::open(&path)? };
    let (mut roots, mut forgotten) = (BTreeSet::new(), Vec::new());
    for lock in &arguments.lock {
        roots.extend(locks::find(&lock.display().to_string(), &path)?.trees());
    }
    let active: BTreeSet<_> = store.leases()?.into_iter().map(|lease| lease.holder.stage).collect();
    for name in store.run_names()? {
        let numbers = store.run_numbers(&name)?.into_iter().rev().enumerate();
        for (age, number) in numbers {
            let folder = store.run_folder(&name, number)?;
            let lock = folder.path.join(LOCK);
            // The newest keeps its number from being given again; one without a lock may be under way.
            let ended = lock.is_file() || !active.contains(&name);
            if age > 0 && ended && arguments.keep_runs.is_some_and(|keep| age >= keep) {
                forgotten.push(folder);
            } else if lock.is_file() {
                match locks::read(&lock) {
                    Ok(lock) => roots.extend(lock.trees()),
                    Err(error) => anstream::eprint!("warning: what run {name}.{number} gave is not known: {error}"),
                }
            }
        }
    }
    let wish = Wish { keep_size: arguments.keep_size.map(|size| size.0), roots };
    let removals = if arguments.dry_run { store.removals(&wish)? } else { store.collect(&wish)? };
    if !arguments.dry_run {
        forgotten.iter().try_for_each(|folder| store.forget_run(folder))?;
    }
    if !forgotten.is_empty() && !arguments.json {
        let verb = if arguments.dry_run { "would forget" } else { "forgot" };
        anstream::println!("{verb} {}", figures::counted(forgotten.len() as u64, "past run"));
    }
    let mut out = anstream::stdout().lock();
    if arguments.json {
        writeln!(out, "{:#}", json!(removals))?;
    } else {
        tell(&mut out, &removals, arguments.dry_run)?;
    }
    match wish.keep_size {
        Some(keep) if removals.after > keep => {
            let needed = figures::size(removals.rooted);
            anstream::eprintln!("note: {needed} are in use by runs, lock files or running processes, and stay");
            Ok(Exit::Done)
        }
        _ => Ok(Exit::Done),
    }
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
        (removals.scratch, "of scratch of stages that are done"),
        (removals.aside, "moved aside as damaged"),
    ] {
        if totals.count > 0 {
            writeln!(out, "{verb} {:>8}  {what}", figures::size(totals.bytes))?;
        }
    }
    let cost: f64 = removals.builds.iter().map(|build| build.seconds).sum();
    let (before, after) = (figures::size(removals.before), figures::size(removals.after));
    let again = if cost > 0.0 { format!("; all of it again takes {}", figures::duration(cost)) } else { String::new() };
    writeln!(out, "{before} -> {after}{again}")?;
    Ok(())
}
