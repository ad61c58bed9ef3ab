//! Runs by reference: a name (`quickstart`), a run of that name (`quickstart.3`), a manifest (the runs of its name), or the path of
//! a lock file. A name alone means the run that `latest` points to if a lock is needed, else the newest run.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use super::arguments::{StoreOptions, names_manifest};
use super::{CommandError, store_dir};
use crate::events::Stamped;
use crate::manifest::{head, shell};
use crate::report::run_lock::{FILE, InvalidLock, LockSummary, RunLock};
use crate::run::EVENTS;
use crate::store::{Damage, RunDir, Store, StoreError};

/// Returns the lock of a run, or that of a lock file.
pub(super) fn find_lock(reference: &str, options: &StoreOptions) -> Result<RunLock, CommandError> {
    let path = Path::new(reference);
    if path.is_file() && !names_manifest(reference) {
        return read_lock(path);
    }
    let store = open_store(reference, options)?;
    let (run, number) = parse(reference, &store)?;
    let candidates: Vec<_> = match number {
        Some(number) => vec![number],
        None => {
            let latest = store.runs.latest(&run)?.map(|latest| latest.number);
            latest.into_iter().chain(store.runs.numbers(&run)?.into_iter().rev()).collect()
        }
    };
    for candidate in candidates {
        let lock = lock_of(&store, &store.runs.dir(&run, candidate)?)?;
        // A run that was stopped before any stage was done has nothing to compare with.
        if let Some(lock) = lock.filter(|lock| number.is_some() || !lock.stages.is_empty()) {
            return Ok(lock);
        }
    }
    Err(CommandError::usage(format!("run '{reference}' has not ended, or completed no stage")))
}

/// Opens the store in which a reference is looked up, for reading only.
pub(super) fn open_store(reference: &str, options: &StoreOptions) -> Result<Store, CommandError> {
    Ok(Store::open_read_only(&options.for_reference(reference).existing()?)?)
}

/// Returns the run that a reference means: the newest of the name if there is no number.
pub(super) fn resolve(reference: &str, store: &Store) -> Result<RunDir, CommandError> {
    let (run, number) = parse(reference, store)?;
    match number.or(store.runs.numbers(&run)?.last().copied()) {
        Some(number) => Ok(store.runs.dir(&run, number)?),
        None => Err(CommandError::usage(format!("there is no past run of '{run}'"))),
    }
}

/// Returns the name and the number, if any, of a run of the store.
pub(super) fn parse(reference: &str, store: &Store) -> Result<(String, Option<u32>), CommandError> {
    let names = store.runs.names()?;
    if names.iter().any(|name| name == reference) {
        return Ok((reference.to_owned(), None));
    }
    let root = || store_dir::relative(store.layout().root().to_owned());
    if names_manifest(reference) {
        let name = head(Path::new(reference))?.name;
        if names.contains(&name) {
            return Ok((name, None));
        }
        let error = CommandError::usage(format!("the store {} has no run of {reference}", root().display()));
        return Err(error.hint(format!("pipeline run {}", shell::quoted(reference))));
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
    let error = CommandError::usage(format!("there is no run, manifest or lock file '{reference}'"));
    Err(match names.is_empty() {
        true => error.hint(format!("{} has no runs: set the store with --cache DIR", root().display())),
        false => error.suggest(reference, "the runs are", names.iter().map(String::as_str)),
    })
}

/// Reads a lock file.
pub(super) fn read_lock(path: &Path) -> Result<RunLock, CommandError> {
    load(path, RunLock::decode).map_err(|problem| {
        let error = CommandError::usage(format!("{} is not a valid run.lock: {problem}", path.display()));
        error.hint("a run writes one: cache/runs/NAME/latest/run.lock")
    })
}

/// Returns the lock of a run of the store; `None` if the run has not ended.
///
/// # Errors
/// [`StoreError::Damaged`] if the lock is invalid; a store that is open for writing moves it aside.
pub(super) fn lock_of(store: &Store, run: &RunDir) -> Result<Option<RunLock>, StoreError> {
    load_from(store, run, RunLock::decode)
}

/// Returns the summary of a run's lock; [`lock_of`] returns the whole lock.
///
/// # Errors
/// See [`lock_of`].
pub(super) fn summary_of(store: &Store, run: &RunDir) -> Result<Option<LockSummary>, StoreError> {
    load_from(store, run, RunLock::summarize)
}

fn load_from<T>(
    store: &Store,
    run: &RunDir,
    parse: fn(&str) -> Result<T, InvalidLock>,
) -> Result<Option<T>, StoreError> {
    let path = run.path.join(FILE);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    match load(&path, parse) {
        Ok(lock) => Ok(Some(lock)),
        Err(problem) => Err(StoreError::Damaged(store.builds.damaged_file(&path, problem)?)),
    }
}

fn load<T>(path: &Path, parse: fn(&str) -> Result<T, InvalidLock>) -> Result<T, String> {
    // A lock lists every file of every output; a larger file is not a lock.
    const LARGEST: u64 = 256 << 20;
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.len() > LARGEST || !metadata.is_file() {
        return Err("it is not a regular file, or too large".to_owned());
    }
    parse(&fs::read_to_string(path).map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

/// Returns the recorded events of a run, in order; none if there is no file. An error is the last item. A last line that a kill truncated
/// is skipped.
pub(super) fn events_of(run: &RunDir) -> impl Iterator<Item = Result<Stamped, String>> + use<> {
    let path = run.path.join(EVENTS);
    let open = || match path.metadata()?.is_file() {
        true => File::open(&path),
        // Opening a named pipe would block.
        false => Err(io::Error::other("it is not a regular file")),
    };
    let (file, problem) = match path.symlink_metadata().is_ok().then(open).transpose() {
        Ok(file) => (file, None),
        Err(error) => (None, Some(Err(error.to_string()))),
    };
    let read = |file| serde_json::Deserializer::from_reader(BufReader::new(file)).into_iter::<Stamped>();
    let events = file.into_iter().flat_map(read).map_while(|event| match event {
        Err(error) if error.is_eof() => None,
        event => Some(event.map_err(|error| error.to_string())),
    });
    problem.into_iter().chain(events)
}

/// Returns the recorded events of a run by reference, in order.
pub(super) fn events(
    reference: &str,
    options: &StoreOptions,
) -> Result<impl Iterator<Item = Result<Stamped, CommandError>> + use<>, CommandError> {
    let store = open_store(reference, options)?;
    let run = resolve(reference, &store)?;
    if run.path.join(EVENTS).symlink_metadata().is_err() {
        return Err(CommandError::usage(format!("run '{run}' was stopped before its first event")));
    }
    Ok(events_of(&run).map(move |event| {
        event.map_err(|problem| match store.builds.damaged_file(&run.path.join(EVENTS), problem) {
            Ok(damage) => StoreError::Damaged(damage).into(),
            Err(error) => error.into(),
        })
    }))
}

/// Returns the damage of a run's events, if any; a store that is open for writing moves them aside.
pub(super) fn events_damage(store: &Store, run: &RunDir) -> Result<Option<Damage>, StoreError> {
    let problem = events_of(run).find_map(Result::err);
    problem.map(|problem| store.builds.damaged_file(&run.path.join(EVENTS), problem)).transpose()
}
