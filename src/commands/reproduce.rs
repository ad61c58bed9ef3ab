//! `pipeline reproduce`: runs the manifest of a lock again in an empty store, and compares every stage with the lock.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::arguments::{ExecOptions, StoreOptions};
use super::device::budget;
use super::owned_dir::{OwnedDir, remove_abandoned};
use super::project::Project;
use super::stdout::{print_json, stdout};
use super::{consent, run, run_refs, signals};
use crate::events::{Mode, figures};
use crate::exit::Exit;
use crate::manifest::StageName;
use crate::parallel::limit_threads;
use crate::plan::{Decider, StageOutputs};
use crate::report::RunLock;
use crate::reproduce::{Cause, NOT_REQUESTED, Reasons, Reproduction, StageReproduction, contradiction, provide};
use crate::run::{Options, RecordedRun};
use crate::stderr::stderr;
use crate::store::Store;

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArguments {
    /// The lock: a file, or a run of the store: `quickstart.3`, or a name or manifest for its latest run.
    pub lock: String,
    /// Reproduce only this stage and its dependencies (repeatable).
    #[arg(long, value_name = "STAGE", conflicts_with = "only")]
    pub until: Vec<String>,
    /// Reproduce this stage alone, from the locked outputs of its dependencies, which must be in the store
    /// (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub only: Vec<String>,
    /// Keep the new store in this directory, which must be new or empty; by default it is temporary.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Change a setting of the locked manifest, such as the path of its sources (repeatable).
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    #[command(flatten)]
    pub store: StoreOptions,
    #[command(flatten)]
    pub exec: ExecOptions,
    /// Run the programs of `command` stages, with your rights: allow this only for locks that you trust.
    #[arg(long)]
    pub allow_commands: bool,
    /// Show only failures, warnings and the verdicts.
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the verdicts as one JSON object.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ReproduceArguments) -> Result<Exit, CommandError> {
    arguments.exec.threads.into_iter().for_each(|threads| limit_threads(threads.into()));
    let lock = run_refs::find_lock(&arguments.lock, &arguments.store)?;
    let (folder, temporary) = new_store(arguments.keep.as_deref())?;
    let project = Project::of_lock(&arguments.lock, &lock, &arguments.sets, &folder)?;
    if arguments.sets.is_empty()
        && let Some(contradiction) = contradiction(&lock, &project.manifest)
    {
        return Err(CommandError::usage(format!("{} is inconsistent: {contradiction}", arguments.lock)));
    }
    let named = project.stages(arguments.only.iter().chain(&arguments.until))?;
    let locked: BTreeSet<_> = lock.stages.iter().map(|stage| stage.name.as_str()).collect();
    if let Some(stage) = named.iter().find(|stage| !locked.contains(stage.as_str())) {
        let error = CommandError::usage(format!("the lock has no output of stage '{stage}'"));
        return Err(error.hint("the run that wrote it did not finish this stage"));
    }
    let requested = match (arguments.only.is_empty(), arguments.until.is_empty()) {
        (false, _) => named,
        (true, false) => project.manifest.graph.ancestors(&named),
        (true, true) => {
            project.manifest.stages.keys().filter(|stage| locked.contains(stage.as_str())).cloned().collect()
        }
    };
    if requested.is_empty() {
        return Err(CommandError::usage("the lock has no stages to reproduce"));
    }
    let wanted = match arguments.only.is_empty() {
        true => project.manifest.graph.ancestors(&requested),
        false => requested.clone(),
    };
    consent::require(&arguments.lock, &project, &wanted, arguments.allow_commands, arguments.quiet)?;
    let store = Store::open(&folder)?;
    let provided = match arguments.only.is_empty() {
        true => StageOutputs::new(),
        false => {
            let inputs = requested.iter().flat_map(|stage| project.manifest.graph.inputs_of(stage)).cloned();
            let needed: BTreeSet<StageName> = inputs.filter(|stage| !requested.contains(stage)).collect();
            let cache = arguments.store.for_reference(&arguments.lock).existing()?;
            let from = Store::open_read_only(&cache)?;
            let _guard = from.leases.guard()?;
            provide(&lock, &needed, &from, &store)?.map_err(|stage| {
                let message = format!("{} does not have the locked output of '{stage}'", cache.display());
                CommandError::usage(message).hint("to reproduce it too, pass --until instead of --only")
            })?
        }
    };
    let budget = budget(&arguments.exec, &project, &wanted)?;
    let cancel = signals::stop_on_signals()?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    if project.refuses(&decider, &wanted, budget)? {
        return Ok(Exit::Usage);
    }
    let reasons = Reasons::default();
    let mut shown = vec![Mode::choose(false, arguments.quiet || arguments.json).renderer()];
    shown.push(Box::new(reasons.clone()));
    let options = Options { budget, fail_fast: false, wanted, provided, cancel };
    let RecordedRun { outcome, written, .. } = RecordedRun::execute(decider, &project.manifest.graph, &options, shown)?;
    if let (Err(error), Some(_)) = (&written, &arguments.keep) {
        stderr!("warning: the run has no run.lock: {error}");
    }
    let reproduction =
        Reproduction::new(&lock, &project.manifest, &project.manifest.graph, &outcome, &reasons.get(), &requested);
    print(&reproduction, &lock, arguments.json)?;
    drop(temporary);
    Ok(match outcome.summary.interrupted {
        true => Exit::Interrupted,
        false if outcome.summary.store_failed => Exit::StoreDamaged,
        false if reproduction.first_divergent.is_some() => Exit::Differs,
        false if reproduction.holds(&requested) => run::exit(outcome.summary),
        false => Exit::StageFailed,
    })
}

/// Returns the directory of the new store; a temporary one is removed when the second value is dropped.
fn new_store(keep: Option<&Path>) -> Result<(PathBuf, Option<OwnedDir>), CommandError> {
    match keep {
        Some(dir) => {
            let refuse = |message: String| CommandError::usage(message).hint("choose a new or an empty directory");
            if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(refuse(format!("{} is not empty", dir.display())));
            }
            fs::create_dir_all(dir).map_err(|error| refuse(format!("cannot create {}: {error}", dir.display())))?;
            Ok((dir.to_owned(), None))
        }
        None => {
            const PREFIX: &str = "pipeline-reproduce-";
            let parent = std::env::temp_dir();
            remove_abandoned(&parent, PREFIX);
            let temporary =
                OwnedDir::new_in(&parent, PREFIX).map_err(CommandError::io("create a temporary directory"))?;
            Ok((temporary.path().to_owned(), Some(temporary)))
        }
    }
}

/// The labels of the stage counts, in printing order.
const OUTCOMES: [&str; 5] = ["identical", "equal within tolerance", "not comparable", "different", "not attempted"];

fn print(reproduction: &Reproduction, lock: &RunLock, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        let stage = |(name, verdict): &(String, StageReproduction)| {
            let mut value = json!(verdict);
            value["stage"] = name.as_str().into();
            value
        };
        let stages: Vec<_> = reproduction.stages.iter().map(stage).collect();
        print_json(&json!({ "run": lock.run.name, "number": lock.run.number, "stages": stages,
            "not_locked": reproduction.not_locked, "first_divergent": reproduction.first_divergent }))?;
        return Ok(());
    }
    let mut out = stdout();
    let width = reproduction.stages.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut counts = [0; OUTCOMES.len()];
    let mut not_requested = Vec::new();
    for (name, verdict) in &reproduction.stages {
        let although =
            |causes: &[Cause]| if causes.is_empty() { String::new() } else { format!("although {}", listed(causes)) };
        let (outcome, label, text) = match verdict {
            StageReproduction::Identical { causes } => (0, "identical", although(causes)),
            StageReproduction::Equal { tolerance, largest, causes } => {
                let (largest, tolerance) = (100.0 * largest, 100.0 * tolerance);
                let text =
                    format!("losses within {largest:.2} % (the lock allows {tolerance} %), {}", although(causes));
                (1, "equal", text.trim_end_matches([',', ' ']).to_owned())
            }
            StageReproduction::NotComparable => {
                (2, "?", "not comparable: its inputs are equal only within tolerance".to_owned())
            }
            StageReproduction::Different { causes, .. } => (3, "DIFFERENT", listed(causes)),
            StageReproduction::NotAttempted { because } => (4, "not attempted", because.clone()),
        };
        counts[outcome] += 1;
        if text == NOT_REQUESTED {
            not_requested.push(name.as_str());
            continue;
        }
        writeln!(out, "{}", format!("{label:>13}  {name:width$}  {text}").trim_end())?;
        if let StageReproduction::Different { metrics, .. } = verdict {
            for (metric, [locked, found]) in metrics {
                let [locked, found] = figures::metrics(*locked, *found);
                writeln!(out, "               {:width$}  {metric}: {locked} -> {found}", "")?;
            }
        }
    }
    let counts = counts.iter().zip(OUTCOMES).filter(|(count, _)| **count > 0);
    writeln!(out, "{}", counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", "))?;
    if !not_requested.is_empty() {
        writeln!(out, "not requested: {}", not_requested.join(", "))?;
    }
    if !reproduction.not_locked.is_empty() {
        writeln!(out, "not in the lock: {}", reproduction.not_locked.join(", "))?;
    }
    if let Some(first) = &reproduction.first_divergent {
        writeln!(out, "first difference: {first}")?;
    }
    Ok(())
}

fn listed(causes: &[Cause]) -> String {
    causes.iter().map(Cause::text).collect::<Vec<_>>().join("; ")
}
