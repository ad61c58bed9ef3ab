//! Finds the directory of the store; the rules are the same for every command and working directory.
//!
//! `--cache DIR`, else `exec.cache` of the manifest or its machine file, else `$PIPELINE_CACHE`; else the nearest directory
//! `cache` at or above the manifest, up to the root of its git repository, that contains a store or is empty except for notes.
//! If there is none, the first run creates one at the root of the git repository, else beside the manifest.
//!
//! A command without a manifest starts at the working directory, and reads `exec.cache` of `pipeline.toml` and `machine.toml`
//! there and in the directories above.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::manifest;
use crate::store::{Store, StoreError};

const NAME: &str = "cache";

/// Returns the store of a manifest; `named` is its `exec.cache`.
///
/// # Errors
/// Returns an error if there is no working directory.
pub(super) fn of_manifest(
    manifest: &Path,
    flag: Option<PathBuf>,
    named: Option<PathBuf>,
) -> Result<PathBuf, CommandError> {
    if let Some(place) = flag.or(named).or_else(from_environment) {
        return Ok(place);
    }
    Ok(relative(default_dir(&project_dir(manifest)?)))
}

/// Returns the store of a command without a manifest.
///
/// # Errors
/// Returns an error if there is no working directory.
pub(super) fn of_working_directory(flag: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    if let Some(place) = flag {
        return Ok(place);
    }
    let here = working_directory()?;
    for dir in project_dirs(&here) {
        if let Some(named) = manifest::store_named_in(dir) {
            return Ok(relative(named));
        }
        if may_hold_store(dir) {
            break;
        }
    }
    Ok(from_environment().unwrap_or_else(|| relative(default_dir(&here))))
}

/// Returns the directory of a manifest, with links resolved; the working directory for a pipe.
fn project_dir(manifest: &Path) -> Result<PathBuf, CommandError> {
    let origin = manifest::origin(manifest);
    let parent = origin.parent().filter(|_| manifest.is_file());
    parent.map_or_else(working_directory, |parent| Ok(parent.to_owned()))
}

/// Returns a path relative to the working directory if it is below it.
pub(super) fn relative(path: PathBuf) -> PathBuf {
    let below = working_directory().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.filter(|below| !below.as_os_str().is_empty()).unwrap_or(path)
}

fn working_directory() -> Result<PathBuf, CommandError> {
    let here = std::env::current_dir().and_then(fs::canonicalize);
    here.map_err(CommandError::io("find the working directory"))
}

fn from_environment() -> Option<PathBuf> {
    std::env::var_os("PIPELINE_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn default_dir(start: &Path) -> PathBuf {
    let dirs = project_dirs(start);
    let root = || dirs.last().filter(|dir| is_repository(dir));
    dirs.iter().find(|dir| may_hold_store(dir)).or_else(root).unwrap_or(&start).join(NAME)
}

/// Returns a directory and its ancestors, up to the root of its git repository. World-writable directories above it, such as
/// `/tmp`, are skipped: a store there may belong to another user.
fn project_dirs(start: &Path) -> Vec<&Path> {
    let is_public = |dir: &Path| dir.metadata().is_ok_and(|found| found.mode() & 0o002 != 0);
    let root = start.ancestors().position(is_repository).map_or(usize::MAX, |position| position + 1);
    start.ancestors().take(root).filter(|dir| *dir == start || !is_public(dir)).collect()
}

fn is_repository(dir: &Path) -> bool {
    dir.join(".git").exists()
}

fn may_hold_store(dir: &Path) -> bool {
    let cache = dir.join(NAME);
    match Store::is_at(&cache) {
        Ok(is_store) => is_store || cache.is_dir(),
        // Opening the store reports the format.
        Err(error) => matches!(error, StoreError::Format { .. }),
    }
}
