//! Where the store is: one answer for every command, from any working directory.
//!
//! `--cache DIR`, else `exec.cache` of the manifest or its machine file, else `$PIPELINE_CACHE`; else the nearest directory
//! `cache` at or above the manifest, up to the root of its git repository, that holds a store or is empty but for notes.
//! Where there is none, the first run makes it at the root of the git repository, else beside the manifest.
//!
//! A command without a manifest starts at the working directory, and there and above it reads `exec.cache` of
//! `pipeline.toml` and `machine.toml`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::manifest;
use crate::store::{Store, StoreError};

const NAME: &str = "cache";

/// The store of a manifest, which may name it itself.
///
/// # Errors
/// When there is no working directory.
pub(super) fn of_manifest(
    manifest: &Path,
    flag: Option<PathBuf>,
    named: Option<PathBuf>,
) -> Result<PathBuf, CommandError> {
    if let Some(place) = flag.or(named).or_else(from_environment) {
        return Ok(place);
    }
    Ok(shown(default_place(&project_folder(manifest)?)))
}

/// The store of a command that has no manifest.
///
/// # Errors
/// When there is no working directory.
pub(super) fn of_working_directory(flag: Option<PathBuf>) -> Result<PathBuf, CommandError> {
    if let Some(place) = flag {
        return Ok(place);
    }
    let here = working_directory()?;
    for folder in project_folders(&here) {
        if let Some(named) = manifest::store_named_in(folder) {
            return Ok(shown(named));
        }
        if may_hold_store(folder) {
            break;
        }
    }
    Ok(from_environment().unwrap_or_else(|| shown(default_place(&here))))
}

/// The directory in which a manifest lies, without links. One that is a pipe has the working directory.
pub(super) fn project_folder(manifest: &Path) -> Result<PathBuf, CommandError> {
    let origin = manifest::origin(manifest);
    let folder = if manifest.is_file() { origin.parent().map(Path::to_owned) } else { None };
    folder.map_or_else(working_directory, Ok)
}

/// A path as people see it: relative where it lies below the working directory.
pub(super) fn shown(path: PathBuf) -> PathBuf {
    let relative = working_directory().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    relative.filter(|relative| !relative.as_os_str().is_empty()).unwrap_or(path)
}

fn working_directory() -> Result<PathBuf, CommandError> {
    let here = std::env::current_dir().and_then(fs::canonicalize);
    here.map_err(CommandError::io("find the working directory"))
}

fn from_environment() -> Option<PathBuf> {
    std::env::var_os("PIPELINE_CACHE").filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn default_place(start: &Path) -> PathBuf {
    let folders = project_folders(start);
    let root = || folders.last().filter(|folder| is_repository(folder));
    folders.iter().find(|folder| may_hold_store(folder)).or_else(root).unwrap_or(&start).join(NAME)
}

/// A directory and those above it, up to the root of its git repository. What everybody may write to, such as `/tmp`, belongs
/// to no project: a store that lies there may be anybody's.
fn project_folders(start: &Path) -> Vec<&Path> {
    let is_public = |folder: &Path| folder.metadata().is_ok_and(|found| found.mode() & 0o002 != 0);
    let root = start.ancestors().position(is_repository).map_or(usize::MAX, |position| position + 1);
    start.ancestors().take(root).filter(|folder| *folder == start || !is_public(folder)).collect()
}

fn is_repository(folder: &Path) -> bool {
    folder.join(".git").exists()
}

fn may_hold_store(folder: &Path) -> bool {
    let cache = folder.join(NAME);
    match Store::is_at(&cache) {
        Ok(is_store) => is_store || cache.is_dir(),
        // Opening it reports the format.
        Err(error) => matches!(error, StoreError::Format { .. }),
    }
}
