//! Writing that a kill cannot tear: to a temporary name, fsync, rename, fsync of the folder.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::{Result, StoreError};
use super::failpoint;

/// Writes `content` at `path`, replacing what is there. `temporary` is a folder on the same file system.
pub(super) fn replace(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let file = prepare(temporary, path, content, mode)?;
    failpoint::pass("write-before-rename");
    file.persist(path).map_err(|error| StoreError::io("write", path)(error.error))?;
    failpoint::pass("write-after-rename");
    sync_parent(path)
}

/// Writes `content` at `path`; false, and nothing written, when something is there already.
pub(super) fn create(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> Result<bool> {
    let file = prepare(temporary, path, content, mode)?;
    failpoint::pass("create-before-rename");
    match file.persist_noclobber(path) {
        Ok(_) => {
            failpoint::pass("create-after-rename");
            sync_parent(path).map(|()| true)
        }
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(StoreError::io("write", path)(error.error)),
    }
}

fn prepare(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> Result<NamedTempFile> {
    let write = || {
        let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(temporary)?;
        file.write_all(content)?;
        failpoint::pass("write-before-sync");
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(StoreError::io("write", path))
}

/// Makes a folder and those above it, and syncs the entry of the new one.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(StoreError::io("make", path))?;
    sync_parent(path)
}

/// Makes a rename or a creation in this folder last through a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", folder))
}

pub(super) fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Moves `path` into `folder` under a name that nothing there has; where it went.
pub(super) fn move_aside(path: &Path, folder: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = |number: u32| folder.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
    let mut number = 0;
    while free(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let aside = free(number);
    fs::rename(path, &aside).map_err(StoreError::io("move", path))?;
    Ok(aside)
}
