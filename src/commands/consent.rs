//! Consent to run the programs of a lock.
//!
//! A lock may come from anyone, and a stage that runs a program runs it with the rights of the user. So `reproduce` prints what such
//! stages would run, and runs it only with `--allow-commands`. A manifest that is passed to `run` needs no consent: like a
//! Makefile, it is code that the user chose to run.

use std::collections::BTreeSet;

use contract::Stage;
use serde_json::Value;

use super::CommandError;
use super::project::Project;
use crate::manifest::shell::quoted;
use crate::manifest::{StageDeclaration, StageName};
use crate::stderr::stderr;

/// The kinds that run programs.
const PROGRAM_KINDS: [&str; 1] = [command::Command::KIND];

/// Prints the programs that the given stages of a lock run.
///
/// # Errors
/// Returns an error if there are any and `is_allowed` is false.
pub(super) fn require(
    lock: &str,
    project: &Project,
    stages: &BTreeSet<StageName>,
    is_allowed: bool,
    is_quiet: bool,
) -> Result<(), CommandError> {
    let declared = project.manifest.graph.order().iter().filter(|name| stages.contains(*name));
    let declared = declared.map(|name| &project.manifest.stages[name]);
    let programs: Vec<_> = declared.filter(|stage| PROGRAM_KINDS.contains(&stage.kind.name)).collect();
    if programs.is_empty() {
        return Ok(());
    }
    if !is_allowed || !is_quiet {
        stderr!("note: {lock} runs these programs:");
        programs.iter().for_each(|stage| stderr!("  {}: {}", stage.name, command_line(stage)));
    }
    if is_allowed {
        return Ok(());
    }
    let error = CommandError::usage(format!("{lock} runs programs on this machine"));
    Err(error.hint("if you trust it, pass --allow-commands"))
}

/// Returns the command of a stage, quoted for a shell.
fn command_line(stage: &StageDeclaration) -> String {
    let settings = stage.stage.spec();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let environment = settings.get("environment").and_then(Value::as_object).into_iter().flatten();
    let environment = environment.map(|(name, value)| format!("{name}={}", quoted(&text(value))));
    let arguments = settings.get("arguments").and_then(Value::as_array).into_iter().flatten();
    let words = settings.get("program").into_iter().chain(arguments).map(|word| quoted(&text(word)).into_owned());
    environment.chain(words).collect::<Vec<_>>().join(" ")
}
