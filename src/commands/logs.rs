//! `pipeline logs RUN STAGE`: the events of one stage of a past run.

use std::io::Write;

use clap::Args;
use contract::Note;

use super::CommandError;
use super::arguments::{StoreOptions, names_manifest};
use super::run_refs;
use super::stdout::{json_text, raw_stdout, stdout};
use crate::events::{Event, Stamped, figures, since};
use crate::exit::Exit;
use crate::run::EVENTS;
use crate::stderr::stderr;
use crate::store::Store;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// The run (`quickstart.3`, or a name or manifest for its newest run; default: the newest run of the store), then the
    /// stage.
    #[arg(value_name = "STAGE", num_args = 1..=2, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub store: StoreOptions,
    /// Print the recorded events of the stage, one JSON object per line.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &LogsArguments) -> Result<Exit, CommandError> {
    let (reference, stage) = match arguments.place.as_slice() {
        [run, stage] => (run.clone(), stage),
        [stage] if !names_manifest(stage) => (newest(&arguments.store)?, stage),
        _ => return Err(CommandError::usage("no stage given").hint("pipeline logs RUN STAGE")),
    };
    let run = run_of_stage(&reference, stage, &arguments.store)?.unwrap_or(reference);
    let (mut stages, mut is_found) = (Vec::new(), false);
    let mut out = stdout();
    for event in run_refs::events(&run, &arguments.store)? {
        let event = event?;
        if let Event::RunStarted { stages: all, .. } = &event.event {
            stages.clone_from(all);
        }
        if event.event.stage() != Some(stage.as_str()) {
            continue;
        }
        is_found = true;
        if arguments.json {
            let text = serde_json::to_string(&event).map_err(std::io::Error::from)?;
            writeln!(raw_stdout(), "{}", json_text(text))?;
        } else if let Some(text) = line(&event.event) {
            writeln!(out, "{:>8}  {text}", figures::clock(event.at))?;
        }
    }
    if !is_found {
        let error = CommandError::usage(format!("run '{run}' has no events of stage '{stage}'"));
        return Err(error.suggest(stage, "its stages are", stages.iter().map(String::as_str)));
    }
    Ok(Exit::Done)
}

/// Returns the newest run of the same name, up to the one that `reference` names, in which the stage ran. Returns `None` if the events of
/// the named run itself are to be shown: the stage ran or failed in it, or in no other run.
fn run_of_stage(reference: &str, stage: &str, options: &StoreOptions) -> Result<Option<String>, CommandError> {
    let store = run_refs::open_store(reference, options)?;
    let named = run_refs::resolve(reference, &store)?;
    for number in store.runs.numbers(&named.run)?.into_iter().rev().filter(|number| *number <= named.number) {
        let run = store.runs.dir(&named.run, number)?;
        let (mut is_cached, mut has_events) = (false, false);
        for event in run_refs::events_of(&run) {
            // The damage is reported when the events are printed.
            let Ok(Stamped { event, .. }) = event else { return Ok(None) };
            if event.stage() != Some(stage) {
                continue;
            }
            has_events = true;
            is_cached |= matches!(event, Event::StageCached { .. });
            if matches!(event, Event::StageStarted { .. }) {
                if run == named {
                    return Ok(None);
                }
                stderr!("note: {stage} did not run in {named}; these are its events of {run}");
                return Ok(Some(run.to_string()));
            }
        }
        // It failed before it started, or was skipped.
        if has_events && !is_cached {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Returns the run that started or ended last.
fn newest(options: &StoreOptions) -> Result<String, CommandError> {
    let store = Store::open_read_only(&options.existing()?)?;
    let mut newest = None;
    for run in store.runs.all()? {
        // The directory's time cannot be used: pinning a run changes it.
        let modified = run.path.join(EVENTS).metadata().and_then(|metadata| metadata.modified());
        newest = newest.max(modified.ok().map(|modified| (modified, run.to_string())));
    }
    let none = || CommandError::usage("the store has no runs").hint("set the store with --cache DIR");
    newest.map(|(_, run)| run).ok_or_else(none)
}

/// Formats an event of a stage.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::StageStarted { kind, key, threads, reasons, .. } => {
            let because: String = reasons.iter().map(|reason| format!("\n{:10}because: {reason}", "")).collect();
            let threads = figures::counted(*threads as u64, "thread");
            format!("started ({kind}, key {}, {threads}){because}", key.short())
        }
        Event::StageWaiting { holder, .. } => format!("waiting for {holder}"),
        Event::StageNote { note, .. } => match note {
            Note::Info { text } => text.clone(),
            Note::Output { text } => format!("| {text}"),
            Note::Warning { text } => format!("warning: {text}"),
            Note::Metric { step, name, value } => format!("{name} {value} at {step}"),
        },
        Event::StageFinished { seconds, .. } => {
            let since = since(event).map(|text| format!("\n{:10}{text}", "")).unwrap_or_default();
            format!("finished after {}{since}", figures::duration(*seconds))
        }
        Event::StageCached { key, .. } => format!("cached (key {})", key.short()),
        Event::StageFailed { message, place, hint, .. } => {
            let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let hint = hint.as_ref().map(|hint| format!("\n{:10}hint: {hint}", "")).unwrap_or_default();
            format!("failed: {place}{message}{hint}")
        }
        Event::StageSkipped { because, .. } => format!("skipped: {because}"),
        Event::RunStarted { .. } | Event::StageProgress { .. } | Event::RunFinished { .. } => return None,
    })
}
