//! `pipeline logs RUN STAGE`: what a stage of a past run did and said, from its events.

use std::io::Write;

use clap::Args;
use contract::{Note, printable};

use super::CommandError;
use super::arguments::{StorePlace, names_manifest};
use super::locks;
use super::stdout::stdout;
use crate::events::{Event, figures, since};
use crate::exit::Exit;
use crate::manifest::did_you_mean;
use crate::report::EVENTS;
use crate::say::say;
use crate::store::Store;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// The run (`quickstart` or its manifest for the newest of that name, or `quickstart.3`; without it the newest run of the
    /// store), then the stage.
    #[arg(value_name = "STAGE", num_args = 1..=2, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub store: StorePlace,
    /// Print the stage's events as they were recorded, one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &LogsArguments) -> Result<Exit, CommandError> {
    let (run, stage) = match arguments.place.as_slice() {
        [run, stage] => (run.clone(), stage),
        [stage] if !names_manifest(stage) => (newest(&arguments.store)?, stage),
        _ => return Err(CommandError::usage("which stage?").hint("pipeline logs RUN STAGE")),
    };
    let run = in_which_it_ran(&run, stage, &arguments.store)?.unwrap_or(run);
    let (mut stages, mut told) = (Vec::new(), 0);
    let mut out = stdout();
    for event in locks::recorded(&run, &arguments.store)? {
        let event = event?;
        if let Event::RunStarted { stages: all, .. } = &event.event {
            stages.clone_from(all);
        }
        if event.event.stage() != Some(stage.as_str()) {
            continue;
        }
        told += 1;
        if arguments.json {
            writeln!(out, "{}", serde_json::to_string(&event).unwrap_or_default())?;
        } else if let Some(text) = line(&event.event) {
            writeln!(out, "{:>8}  {}", figures::clock(event.at), printable(&text, &['\t']))?;
        }
    }
    if told == 0 {
        let hint = match did_you_mean(stage, stages.iter().map(String::as_str)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("its stages are {}", stages.join(", ")),
        };
        let error = CommandError::usage(format!("run '{run}' says nothing of a stage '{stage}'"));
        return Err(error.hint(hint));
    }
    Ok(Exit::Done)
}

/// Where a run found a stage cached, or left it out, or is only named: the newest run of that name, up to it, in which the stage ran.
fn in_which_it_ran(reference: &str, stage: &str, place: &StorePlace) -> Result<Option<String>, CommandError> {
    let store = locks::open(reference, place)?;
    let given = locks::folder(reference, &store)?;
    let started = |event: &Event| matches!(event, Event::StageStarted { stage: started, .. } if started == stage);
    let cached = |event: &Event| matches!(event, Event::StageCached { stage: cached, .. } if cached == stage);
    for number in store.runs.numbers(&given.run)?.into_iter().rev().filter(|number| *number <= given.number) {
        let run = store.runs.dir(&given.run, number)?;
        let Ok(events) = locks::events(&run) else { continue };
        let (mut was_cached, mut is_told) = (false, false);
        for event in events {
            // What is damaged is told of by whoever reads it for good.
            let Ok(event) = event else { return Ok(None) };
            if started(&event.event) {
                let earlier = number != given.number;
                if earlier {
                    say!("note: it did not run in {given}; this is {run}");
                }
                return Ok(earlier.then(|| run.to_string()));
            }
            was_cached |= cached(&event.event);
            is_told |= event.event.stage() == Some(stage);
        }
        // It failed before it started, or was skipped: that is what there is to say.
        if is_told && !was_cached {
            return Ok(None);
        }
    }
    Ok(None)
}

/// The run that started, or ended, last.
fn newest(place: &StorePlace) -> Result<String, CommandError> {
    let store = Store::open_read_only(&place.existing()?)?;
    let mut newest = None;
    for run in store.runs.all()? {
        // Not the folder's own time: pinning a run changes it.
        let ended = run.path.join(EVENTS).metadata().and_then(|metadata| metadata.modified());
        newest = newest.max(ended.ok().map(|ended| (ended, run.to_string())));
    }
    let none = || CommandError::usage("the store has no runs").hint("name the store with --cache DIR");
    newest.map(|(_, run)| run).ok_or_else(none)
}

/// What happened to a stage, in a line.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::StageStarted { kind, key, threads, reasons, .. } => {
            let because: String = reasons.iter().map(|reason| format!("\n{:10}because: {reason}", "")).collect();
            let threads = figures::counted(*threads as u64, "thread");
            format!("started ({kind}, key {}, {threads}){because}", key.short())
        }
        Event::StageWaiting { holder, .. } => format!("waits for {holder}"),
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
        Event::StageCached { key, .. } => format!("was cached (key {})", key.short()),
        Event::StageFailed { message, place, hint, .. } => {
            let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let hint = hint.as_ref().map(|hint| format!("\n{:10}hint: {hint}", "")).unwrap_or_default();
            format!("failed: {place}{message}{hint}")
        }
        Event::StageSkipped { because, .. } => format!("was skipped: {because}"),
        Event::RunStarted { .. } | Event::StageProgress { .. } | Event::RunFinished { .. } => return None,
    })
}
