//! `pipeline reproduce`: a locked run again, in an empty store, compared stage by stage.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::arguments::{Execution, StorePlace};
use super::owned_folder::{OwnedFolder, remove_abandoned};
use super::project::Project;
use super::stdout::stdout;
use super::{locks, run, signals};
use crate::events::{Mode, figures};
use crate::exit::Exit;
use crate::manifest::StageName;
use crate::plan::Decider;
use crate::report::{KeptRun, RunLock};
use crate::reproduce::{Cause, NOT_ASKED, Reasons, Reproduction, Verdict, contradiction, provide};
use crate::run::{Given, Options};
use crate::say::say;
use crate::store::Store;

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArguments {
    /// The lock: a file, or a run of the store: `quickstart`, `quickstart.3`, a manifest (its newest run).
    pub lock: String,
    /// Reproduce this stage and what it needs (repeatable).
    #[arg(long, value_name = "STAGE", conflicts_with = "only")]
    pub until: Vec<String>,
    /// Reproduce this stage alone, from the locked outputs of what it needs, which the store must have (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub only: Vec<String>,
    /// Keep the new store, with this run in it, in this folder, which must be new or empty; without it, it is removed at the
    /// end.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Change a setting of the locked manifest, such as where its sources lie (repeatable).
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub store: StorePlace,
    #[command(flatten)]
    pub execution: Execution,
    /// Show no progress, only failures, warnings and the verdicts.
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the verdicts as one JSON object.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ReproduceArguments) -> Result<Exit, CommandError> {
    let lock = locks::find(&arguments.lock, &arguments.store)?;
    let (folder, temporary) = new_store(arguments.keep.as_deref())?;
    let project = Project::of_lock(&arguments.lock, &lock, &arguments.sets, &folder)?;
    if arguments.sets.is_empty()
        && let Some(contradiction) = contradiction(&lock, &project.manifest)
    {
        return Err(CommandError::usage(format!("{} contradicts itself: {contradiction}", arguments.lock)));
    }
    let named = project.stages(arguments.only.iter().chain(&arguments.until))?;
    if let Some(stage) = named.iter().find(|stage| lock.stage(stage.as_str()).is_none()) {
        let error = CommandError::usage(format!("the lock says nothing of stage '{stage}'"));
        return Err(error.hint("the run that wrote it did not come so far"));
    }
    let asked = match (arguments.only.is_empty(), arguments.until.is_empty()) {
        (false, _) => named,
        (true, false) => project.manifest.graph.ancestors(&named),
        (true, true) => {
            let locked = |stage: &&StageName| lock.stage(stage.as_str()).is_some();
            project.manifest.stages.keys().filter(locked).cloned().collect()
        }
    };
    if asked.is_empty() {
        return Err(CommandError::usage("the lock has no stages: nothing can be reproduced"));
    }
    let store = Store::open(&folder)?;
    let (wanted, given) = match arguments.only.is_empty() {
        true => (project.manifest.graph.ancestors(&asked), Given::new()),
        false => {
            let above = asked.iter().flat_map(|stage| project.manifest.graph.inputs_of(stage)).cloned();
            let needed: BTreeSet<StageName> = above.filter(|stage| !asked.contains(stage)).collect();
            let cache = arguments.store.for_reference(&arguments.lock).existing()?;
            let from = Store::open_read_only(&cache)?;
            let _guard = from.leases.guard()?;
            let given = provide(&lock, &needed, &from, &store)?.map_err(|stage| {
                let message = format!("{} does not have the locked output of '{stage}'", cache.display());
                CommandError::usage(message).hint("reproduce it too: --until in place of --only")
            })?;
            (asked.clone(), given)
        }
    };
    let budget = run::budget(&arguments.execution, &project, &wanted)?;
    let cancel = signals::stop_on_signals()?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    if project.refuses(&decider, &wanted, budget)? {
        return Ok(Exit::Usage);
    }
    let reasons = Reasons::default();
    let mut shown = vec![Mode::choose(false, arguments.quiet || arguments.json).renderer()];
    shown.push(Box::new(reasons.clone()));
    let options = Options { budget, fail_fast: false, wanted, given, cancel };
    let KeptRun { outcome, written, .. } = KeptRun::of(decider, &project.manifest.graph, &options, shown)?;
    if let (Err(error), Some(_)) = (&written, &arguments.keep) {
        say!("warning: the run is not written down: {error}");
    }
    let reproduction =
        Reproduction::of(&lock, &project.manifest, &project.manifest.graph, &outcome, &reasons.get(), &asked);
    tell(&reproduction, &lock, arguments.json)?;
    drop(temporary);
    Ok(match outcome.summary.interrupted {
        true => Exit::Interrupted,
        false if outcome.summary.store_failed => Exit::StoreDamaged,
        false if reproduction.first_divergent.is_some() => Exit::Differs,
        false if reproduction.holds(&asked) => run::exit(outcome.summary),
        false => Exit::StageFailed,
    })
}

/// The folder of the new store; a temporary one is removed when the second value is dropped.
fn new_store(keep: Option<&Path>) -> Result<(PathBuf, Option<OwnedFolder>), CommandError> {
    match keep {
        Some(folder) => {
            if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
                let error = CommandError::usage(format!("{} is not empty", folder.display()));
                return Err(error.hint("a reproduction starts from nothing: name a new folder"));
            }
            fs::create_dir_all(folder).map_err(|error| {
                let error = CommandError::usage(format!("cannot make {}: {error}", folder.display()));
                error.hint("a reproduction starts from nothing: name a new folder")
            })?;
            Ok((folder.to_owned(), None))
        }
        None => {
            const PREFIX: &str = "pipeline-reproduce-";
            let place = std::env::temp_dir();
            remove_abandoned(&place, PREFIX, |_| ());
            let temporary = OwnedFolder::new_in(&place, PREFIX).map_err(CommandError::io("make a temporary folder"))?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

fn tell(reproduction: &Reproduction, lock: &RunLock, as_json: bool) -> Result<(), CommandError> {
    let mut out = stdout();
    if as_json {
        let stage = |(name, verdict): &(String, Verdict)| {
            let mut value = json!(verdict);
            value["stage"] = name.as_str().into();
            value
        };
        let stages: Vec<_> = reproduction.stages.iter().map(stage).collect();
        let first = &reproduction.first_divergent;
        writeln!(
            out,
            "{:#}",
            json!({ "run": lock.run.name, "number": lock.run.number, "stages": stages,
                "not_locked": reproduction.not_locked, "first_divergent": first })
        )?;
        return Ok(());
    }
    let width = reproduction.stages.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut unasked = Vec::new();
    for (name, verdict) in &reproduction.stages {
        match verdict {
            Verdict::NotAttempted { because } if because == NOT_ASKED => unasked.push(name.as_str()),
            Verdict::Identical { causes } if causes.is_empty() => writeln!(out, "    identical  {name}")?,
            Verdict::Identical { causes } => {
                writeln!(out, "    identical  {name:width$}  although {}", listed(causes))?;
            }
            Verdict::Equal { tolerance, largest, causes } => {
                let (largest, tolerance) = (100.0 * largest, 100.0 * tolerance);
                let although = if causes.is_empty() { String::new() } else { format!(", although {}", listed(causes)) };
                writeln!(
                    out,
                    "        equal  {name:width$}  losses within {largest:.2} % (the lock allows {tolerance} %){although}"
                )?;
            }
            Verdict::Different { causes, metrics } => {
                writeln!(out, "    DIFFERENT  {name:width$}  {}", listed(causes))?;
                for (metric, [locked, found]) in metrics {
                    let [locked, found] = figures::metrics(*locked, *found);
                    writeln!(out, "               {:width$}  {metric}: {locked} -> {found}", "")?;
                }
            }
            Verdict::NotComparable => {
                writeln!(
                    out,
                    "            ?  {name:width$}  its inputs are equal within tolerance only: not comparable"
                )?;
            }
            Verdict::NotAttempted { because } => writeln!(out, "not attempted  {name:width$}  {because}")?,
        }
    }
    let count =
        |wanted: fn(&Verdict) -> bool| reproduction.stages.iter().filter(|(_, verdict)| wanted(verdict)).count();
    let counts = [
        (count(|verdict| matches!(verdict, Verdict::Identical { .. })), "identical"),
        (count(|verdict| matches!(verdict, Verdict::Equal { .. })), "equal within tolerance"),
        (count(|verdict| matches!(verdict, Verdict::NotComparable)), "not comparable"),
        (count(|verdict| matches!(verdict, Verdict::Different { .. })), "different"),
        (count(|verdict| matches!(verdict, Verdict::NotAttempted { .. })), "not attempted"),
    ];
    let counts: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    writeln!(out, "{}", counts.join(", "))?;
    if !unasked.is_empty() {
        writeln!(out, "not asked for: {}", unasked.join(", "))?;
    }
    if !reproduction.not_locked.is_empty() {
        writeln!(out, "the lock says nothing of {}", reproduction.not_locked.join(", "))?;
    }
    if let Some(first) = &reproduction.first_divergent {
        writeln!(out, "the first stage that differs is {first}")?;
    }
    Ok(())
}

fn listed(causes: &[Cause]) -> String {
    causes.iter().map(Cause::text).collect::<Vec<_>>().join("; ")
}
