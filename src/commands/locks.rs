//! Runs by reference: `quickstart` (the newest that ended), `quickstart.3`, or the path of a lock file.

use std::fs;
use std::path::Path;

use super::CommandError;
use super::run::LOCK;
use crate::manifest::did_you_mean;
use crate::report::RunLock;
use crate::store::{RunFolder, Store};

/// The lock of a run.
pub(super) fn find(reference: &str, cache: &Path) -> Result<RunLock, CommandError> {
    let path = Path::new(reference);
    if path.is_file() {
        return read(path);
    }
    let store = Store::open_read_only(cache)?;
    let (run, number) = named(reference, &store)?;
    let numbers = match number {
        Some(number) => vec![number],
        None => store.run_numbers(&run)?.into_iter().rev().collect(),
    };
    for number in numbers {
        let path = store.run_folder(&run, number)?.path.join(LOCK);
        if path.is_file() {
            return read(&path);
        }
    }
    Err(CommandError::usage(format!("run '{reference}' has not ended, or was not written down")))
}

/// The folder of a run: the newest of a name, unless a number is given.
pub(super) fn folder(reference: &str, store: &Store) -> Result<RunFolder, CommandError> {
    let (run, number) = named(reference, store)?;
    let newest = || Ok::<_, CommandError>(store.run_numbers(&run)?.last().copied());
    match number.map_or_else(newest, |number| Ok(Some(number)))? {
        Some(number) => Ok(store.run_folder(&run, number)?),
        None => Err(CommandError::usage(format!("run '{run}' has no history"))),
    }
}

/// The name, and the number where one is given, of a run that the store has.
fn named(reference: &str, store: &Store) -> Result<(String, Option<u32>), CommandError> {
    let names = store.run_names()?;
    if names.iter().any(|name| name == reference) {
        return Ok((reference.to_owned(), None));
    }
    if let Some((name, number)) = reference.rsplit_once('.')
        && let Ok(number) = number.parse()
        && names.iter().any(|known| known == name)
    {
        let numbers = store.run_numbers(name)?;
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
    Err(CommandError::usage(format!("there is no run and no lock file '{reference}'")).hint(hint))
}

/// The lock that a file holds.
pub(super) fn read(path: &Path) -> Result<RunLock, CommandError> {
    let failed = |problem: String| CommandError::usage(format!("{}: {problem}", path.display()));
    // A lock names each file of each output; more than this is none.
    const LARGEST: u64 = 256 << 20;
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LARGEST) {
        return Err(failed("too large for a lock file".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    RunLock::decode(&text).map_err(|error| failed(error.to_string().trim_end().to_owned()))
}
