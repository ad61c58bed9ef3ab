//! `pipeline replay RUN` and `pipeline logs RUN STAGE`: a past run, from its events.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use clap::Args;
use contract::Note;

use super::project::cache_place;
use super::run::EVENTS;
use super::{CommandError, locks};
use crate::events::{Event, Json, Plain, Renderer, Stamped, figures};
use crate::exit::Exit;
use crate::manifest::did_you_mean;
use crate::store::Store;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The run: `quickstart` for the newest of that name, or `quickstart.3`.
    pub run: String,
    /// The store that knows the run [default: $PIPELINE_CACHE, else ./cache].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Print the events as they were recorded, one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// The run (`quickstart` for the newest of that name, or `quickstart.3`; without it the newest run of the store), then
    /// the stage.
    #[arg(value_name = "STAGE", num_args = 1..=2, required = true)]
    pub place: Vec<String>,
    /// The store that knows the run [default: $PIPELINE_CACHE, else ./cache].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Print the stage's events as they were recorded, one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<Exit, CommandError> {
    let events = events(&arguments.run, arguments.cache.clone())?;
    let out = anstream::stdout();
    let mut renderer: Box<dyn Renderer> = match arguments.json {
        true => Box::new(Json::new(std::io::stdout())),
        false => Box::new(Plain::new(out)),
    };
    for event in events {
        renderer.event(&event?)?;
    }
    Ok(Exit::Done)
}

pub(super) fn logs(arguments: &LogsArguments) -> Result<Exit, CommandError> {
    let (run, stage) = match arguments.place.as_slice() {
        [run, stage] => (run.clone(), stage),
        [stage] => (newest(arguments.cache.clone())?, stage),
        _ => return Err(CommandError::usage("which stage?").hint("pipeline logs RUN STAGE")),
    };
    let (mut stages, mut told) = (Vec::new(), 0);
    let mut out = anstream::stdout().lock();
    for event in events(&run, arguments.cache.clone())? {
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
            writeln!(out, "{:>8}  {text}", figures::clock(event.at))?;
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

/// The run that started last.
fn newest(cache: Option<PathBuf>) -> Result<String, CommandError> {
    let store = Store::open_read_only(&cache_place(cache, None))?;
    let mut newest = None;
    for name in store.run_names()? {
        for number in store.run_numbers(&name)? {
            let started = store.run_folder(&name, number)?.path.metadata().and_then(|metadata| metadata.modified());
            newest = newest.max(started.ok().map(|started| (started, format!("{name}.{number}"))));
        }
    }
    let none = || CommandError::usage("the store has no runs").hint("name the store with --cache DIR");
    newest.map(|(_, run)| run).ok_or_else(none)
}

/// What happened to a stage, in a line.
fn line(event: &Event) -> Option<String> {
    let because = |why: &Option<String>| why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Some(match event {
        Event::StageStarted { kind, key, threads, reason, .. } => {
            format!("started ({kind}, key {}, {threads} threads){}", key.short(), because(reason))
        }
        Event::StageWaiting { holder, .. } => format!("waits for {holder}"),
        Event::StageNote { note, .. } => match note {
            Note::Info { text } => text.clone(),
            Note::Warning { text } => format!("warning: {text}"),
            Note::Metric { step, name, value } => format!("{name} {value} at {step}"),
        },
        Event::StageFinished { seconds, .. } => format!("finished after {}", figures::duration(*seconds)),
        Event::StageCached { key, .. } => format!("was cached (key {})", key.short()),
        Event::StageFailed { message, place, hint, .. } => {
            let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
            let hint = hint.as_ref().map(|hint| format!("\n{:10}hint: {hint}", "")).unwrap_or_default();
            format!("failed: {place}{message}{hint}")
        }
        Event::StageSkipped { because, .. } => format!("was skipped: {because}"),
        Event::RunStarted { .. }
        | Event::StagePlanned { .. }
        | Event::StageProgress { .. }
        | Event::RunFinished { .. } => return None,
    })
}

/// The recorded events of a run, in order. A last line that a kill tore off is left out.
fn events(
    reference: &str,
    cache: Option<PathBuf>,
) -> Result<impl Iterator<Item = Result<Stamped, CommandError>>, CommandError> {
    let store = Store::open_read_only(&cache_place(cache, None))?;
    let path = locks::folder(reference, &store)?.path.join(EVENTS);
    let failed = |problem: String| CommandError::Failed { message: problem, hint: None };
    let file = File::open(&path).map_err(|error| failed(format!("cannot read {}: {error}", path.display())))?;
    let lines = BufReader::new(file).split(b'\n').enumerate();
    Ok(lines.filter_map(move |(number, line)| {
        let line = match line {
            Ok(line) => line,
            Err(error) => return Some(Err(failed(format!("cannot read {}: {error}", path.display())))),
        };
        match serde_json::from_slice(&line) {
            Ok(event) => Some(Ok(event)),
            // Torn by a kill: nothing comes after it.
            Err(error) if error.is_eof() => None,
            Err(error) => Some(Err(failed(format!("{}:{}: {error}", path.display(), number + 1)))),
        }
    }))
}
