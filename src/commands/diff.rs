//! `pipeline diff RUN RUN`: compares the settings and the outputs of two runs.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;

use super::arguments::StoreOptions;
use super::stdout::{print_json, stdout};
use super::{CommandError, run_refs};
use crate::events::figures;
use crate::exit::Exit;
use crate::kinds::kinds;
use crate::plan::change;
use crate::report::diff::StageChange;
use crate::report::{RunDiff, RunLock};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The older run: `quickstart.1`, a name or manifest (its latest run), or a lock file.
    pub old: String,
    /// The newer run.
    pub new: String,
    #[command(flatten)]
    pub store: StoreOptions,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &DiffArguments) -> Result<Exit, CommandError> {
    let old = run_refs::find_lock(&arguments.old, &arguments.store)?;
    let new = run_refs::find_lock(&arguments.new, &arguments.store)?;
    let diff = RunDiff::new(&old, &new, &kinds());
    if arguments.json {
        return Ok(print_json(&diff)?);
    }
    let mut out = stdout();
    if diff.is_empty() {
        writeln!(out, "no difference: equal settings and equal outputs")?;
        return Ok(Exit::Done);
    }
    let name = |lock: &RunLock| format!("{}.{}", lock.run.name, lock.run.number);
    writeln!(out, "{} -> {}", name(&old), name(&new))?;
    // The settings of a stage that only one run has are left out.
    let whole = diff.stages.iter().filter(|stage| matches!(stage.change, StageChange::Added | StageChange::Removed));
    let whole: BTreeSet<_> = whole.map(|stage| stage.stage.as_str()).collect();
    for setting in &diff.settings {
        let stage = setting.path.strip_prefix("stages.").and_then(|path| path.split('.').next());
        if stage.is_some_and(|stage| whole.contains(stage)) {
            continue;
        }
        let change =
            change((setting.old.as_ref(), setting.old_is_default), (setting.new.as_ref(), setting.new_is_default));
        writeln!(out, "{}: {change}", setting.path)?;
    }
    let width = diff.stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0);
    for stage in &diff.stages {
        let text = match &stage.change {
            StageChange::Added => "only the newer run has it".to_owned(),
            StageChange::Removed => "only the older run has it".to_owned(),
            StageChange::SameOutput => "different key, same output".to_owned(),
            StageChange::Output { ports } => {
                let port = |(port, [added, removed, changed]): (&String, &[usize; 3])| {
                    let parts = [(added, "added"), (removed, "removed"), (changed, "changed")];
                    let parts: Vec<_> =
                        parts.iter().filter(|(count, _)| **count > 0).map(|(n, what)| format!("{n} {what}")).collect();
                    format!("{port}: {}", parts.join(", "))
                };
                format!("files differ in {}", ports.iter().map(port).collect::<Vec<_>>().join("; "))
            }
        };
        writeln!(out, "{:width$}  {text}", stage.stage)?;
        for (metric, [old, new]) in &stage.metrics {
            let [old, new] = figures::metrics(*old, *new);
            writeln!(out, "{:width$}  {metric}: {old} -> {new}", "")?;
        }
    }
    Ok(Exit::Done)
}
