//! Runs by reference: `quickstart` (the newest that ended), `quickstart.3`, a manifest (the newest run of its name), or the
//! path of a lock file.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::arguments::{StorePlace, names_manifest};
use super::{CommandError, place};
use crate::events::Stamped;
use crate::manifest::{did_you_mean, head, shell};
use crate::report::{EVENTS, RunLock};
use crate::store::{Damage, RunDir, Store, StoreError};

pub(super) use crate::report::run_lock::FILE as LOCK;

/// The lock of a run.
pub(super) fn find(reference: &str, place: &StorePlace) -> Result<RunLock, CommandError> {
    let path = Path::new(reference);
    if path.is_file() && !names_manifest(reference) {
        return read(path);
    }
    let store = open(reference, place)?;
    let (run, number) = named(reference, &store)?;
    let number_is_named = number.is_some();
    let numbers = match number {
        Some(number) => vec![number],
        None => store.runs.numbers(&run)?.into_iter().rev().collect(),
    };
    for number in numbers {
        match of_run(&store, &store.runs.dir(&run, number)?) {
            // One that was stopped before any stage was done says nothing.
            Ok(Some(lock)) if number_is_named || !lock.stages.is_empty() => return Ok(lock),
            Ok(Some(_)) => {}
            Ok(None) => {}
            Err(damage) => return Err(StoreError::Damaged(damage?).into()),
        }
    }
    Err(CommandError::usage(format!("run '{reference}' has not ended, or no stage of it was done")))
}

/// The store in which a reference is looked up, for reading only.
pub(super) fn open(reference: &str, place: &StorePlace) -> Result<Store, CommandError> {
    Ok(Store::open_read_only(&place.for_reference(reference).existing()?)?)
}

/// The folder of a run: the newest of a name, unless a number is given.
pub(super) fn folder(reference: &str, store: &Store) -> Result<RunDir, CommandError> {
    let (run, number) = named(reference, store)?;
    let newest = || Ok::<_, CommandError>(store.runs.numbers(&run)?.last().copied());
    match number.map_or_else(newest, |number| Ok(Some(number)))? {
        Some(number) => Ok(store.runs.dir(&run, number)?),
        None => Err(CommandError::usage(format!("run '{run}' has no history"))),
    }
}

/// The name, and the number where one is given, of a run that the store has.
pub(super) fn named(reference: &str, store: &Store) -> Result<(String, Option<u32>), CommandError> {
    let names = store.runs.names()?;
    if names.iter().any(|name| name == reference) {
        return Ok((reference.to_owned(), None));
    }
    if names_manifest(reference) {
        let name = head(Path::new(reference))?.name;
        if names.contains(&name) {
            return Ok((name, None));
        }
        let message =
            format!("the store {} has no run of {reference}", place::shown(store.layout().root().to_owned()).display());
        return Err(CommandError::usage(message).hint(format!("pipeline run {}", shell::quoted(reference))));
    }
    if let Some((name, number)) = reference.rsplit_once('.')
        && let Ok(number) = number.parse()
        && names.iter().any(|known| known == name)
    {
        let numbers = store.runs.numbers(name)?;
        if numbers.contains(&number) {
            return Ok((name.to_owned(), Some(number)));
        }
        let known: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        let error = CommandError::usage(format!("run '{name}' has no number {number}"));
        return Err(error.hint(format!("it has {}", known.join(", "))));
    }
    let hint = match did_you_mean(reference, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'?"),
        None if names.is_empty() => {
            format!("{} has no runs: name the store with --cache DIR", store.layout().root().display())
        }
        None => format!("the runs are {}", names.join(", ")),
    };
    Err(CommandError::usage(format!("there is no run, manifest or lock file '{reference}'")).hint(hint))
}

/// The lock that a file holds.
pub(super) fn read(path: &Path) -> Result<RunLock, CommandError> {
    decode(path).map_err(|problem| {
        let error = CommandError::usage(format!("{} is no run.lock: {problem}", path.display()));
        error.hint("a run writes one: cache/runs/NAME/latest/run.lock")
    })
}

/// The lock of a run of the store; none where it did not end.
///
/// # Errors
/// Its damage, which a store that is open for writing moves aside, or why that could not be done.
pub(super) fn of_run(store: &Store, run: &RunDir) -> Result<Option<RunLock>, Result<Damage, StoreError>> {
    let path = run.path.join(LOCK);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    decode(&path).map(Some).map_err(|problem| store.builds.damaged_file(&path, problem))
}

fn decode(path: &Path) -> Result<RunLock, String> {
    // A lock names each file of each output; more than this is none.
    const LARGEST: u64 = 256 << 20;
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > LARGEST || !metadata.is_file() {
        return Err("it is too large, or no file".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    RunLock::decode(&text).map_err(|error| error.to_string())
}

/// The recorded events of a run, in order. A last line that a kill tore off is left out.
pub(super) fn events(run: &RunDir) -> Result<impl Iterator<Item = Result<Stamped, BadEvent>> + use<>, BadEvent> {
    let path = run.path.join(EVENTS);
    let bad = |problem: String| BadEvent { path: path.clone(), problem };
    // A pipe in its place would be waited for without end.
    if !path.metadata().map_err(|error| bad(error.to_string()))?.is_file() {
        return Err(bad("it is not a regular file".to_owned()));
    }
    let file = File::open(&path).map_err(|error| bad(error.to_string()))?;
    let (mut reader, mut number) = (BufReader::new(file), 0);
    Ok(std::iter::from_fn(move || {
        let bad = |problem: String| Some(Err(BadEvent { path: path.clone(), problem }));
        let mut line = Vec::new();
        number += 1;
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return bad(error.to_string()),
        }
        match serde_json::from_slice(&line) {
            Ok(event) => Some(Ok(event)),
            // Torn by a kill, or being written.
            Err(error) if error.is_eof() && !line.ends_with(b"\n") => None,
            Err(error) => bad(format!("line {number}: {error}")),
        }
    }))
}

/// The recorded events of a run by reference, in order.
pub(super) fn recorded(
    reference: &str,
    place: &StorePlace,
) -> Result<impl Iterator<Item = Result<Stamped, CommandError>> + use<>, CommandError> {
    let store = open(reference, place)?;
    let run = folder(reference, &store)?;
    if run.path.join(EVENTS).symlink_metadata().is_err() {
        return Err(CommandError::usage(format!("run '{run}' was stopped before anything happened")));
    }
    let damaged = move |bad: BadEvent| match bad.damage(&store) {
        Ok(damage) => StoreError::Damaged(damage).into(),
        Err(error) => CommandError::Store(error),
    };
    let events = events(&run).map_err(&damaged)?;
    Ok(events.map(move |event| event.map_err(&damaged)))
}

/// Events that cannot be read.
#[derive(Debug)]
pub(super) struct BadEvent {
    path: PathBuf,
    problem: String,
}

impl BadEvent {
    /// As damage of the store.
    pub(super) fn damage(self, store: &Store) -> Result<Damage, StoreError> {
        store.builds.damaged_file(&self.path, self.problem)
    }
}

/// What is wrong with a run's events, if anything; a store that is open for writing moves them aside.
pub(super) fn events_damage(store: &Store, run: &RunDir) -> Result<Option<Damage>, StoreError> {
    if run.path.join(EVENTS).symlink_metadata().is_err() {
        return Ok(None);
    }
    let bad = match events(run) {
        Ok(mut events) => events.find_map(Result::err),
        Err(bad) => Some(bad),
    };
    bad.map(|bad| bad.damage(store)).transpose()
}
