//! `pipeline diff RUN RUN`: the settings of two runs, and their outputs.

use std::io::Write;

use clap::Args;
use contract::printable;
use serde_json::json;

use super::arguments::StorePlace;
use super::stdout::stdout;
use super::{CommandError, locks};
use crate::events::figures;
use crate::exit::Exit;
use crate::kinds::kinds;
use crate::plan::change;
use crate::report::difference::Change;
use crate::report::{Difference, RunLock};

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The older run: `quickstart.1`, a manifest (its newest run), or a lock file.
    pub old: String,
    /// The newer one.
    pub new: String,
    #[command(flatten)]
    pub store: StorePlace,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &DiffArguments) -> Result<Exit, CommandError> {
    let (old, new) = (locks::find(&arguments.old, &arguments.store)?, locks::find(&arguments.new, &arguments.store)?);
    let difference = Difference::of(&old, &new, &kinds());
    let mut out = stdout();
    if arguments.json {
        writeln!(out, "{:#}", json!(difference))?;
        return Ok(Exit::Done);
    }
    if difference.is_empty() {
        writeln!(out, "no difference: equal settings and equal outputs")?;
        return Ok(Exit::Done);
    }
    let name = |lock: &RunLock| printable(&format!("{}.{}", lock.run.name, lock.run.number), &[]);
    writeln!(out, "{} -> {}", name(&old), name(&new))?;
    // Settings of a stage that only one run has go without saying.
    let whole = difference.stages.iter().filter(|stage| matches!(stage.change, Change::Added | Change::Removed));
    let whole: Vec<_> = whole.map(|stage| format!("stages.{}.", stage.stage)).collect();
    let told = difference.settings.iter().filter(|setting| !whole.iter().any(|stage| setting.path.starts_with(stage)));
    for setting in told {
        let change =
            change((setting.old.as_ref(), setting.old_is_default), (setting.new.as_ref(), setting.new_is_default));
        let text = format!("{}: {change}", setting.path);
        writeln!(out, "{}", printable(&text, &[]))?;
    }
    let width = difference.stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0);
    for stage in &difference.stages {
        let text = match &stage.change {
            Change::Added => "only the newer run has it".to_owned(),
            Change::Removed => "only the older run has it".to_owned(),
            Change::SameOutput => "another key, the same output".to_owned(),
            Change::Output { ports } => {
                let port = |(port, [added, removed, changed]): (&String, &[usize; 3])| {
                    let parts = [(added, "new"), (removed, "gone"), (changed, "changed")];
                    let parts: Vec<_> =
                        parts.iter().filter(|(count, _)| **count > 0).map(|(n, what)| format!("{n} {what}")).collect();
                    format!("{port}: {}", parts.join(", "))
                };
                format!("other files in {}", ports.iter().map(port).collect::<Vec<_>>().join("; "))
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
