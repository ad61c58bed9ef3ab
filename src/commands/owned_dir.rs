//! Temporary directories with an owner: the file `.owner` in one is locked while its process lives, so that other processes can
//! remove it after a kill.

use std::fs::{self, File};
use std::io;
use std::path::Path;

const OWNER: &str = ".owner";

/// A temporary directory of this process, removed on drop.
pub(super) struct OwnedDir {
    dir: tempfile::TempDir,
    _owner: File,
}

impl OwnedDir {
    /// Creates a directory in `parent` with a unique name that begins with `prefix`.
    pub(super) fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        // Locked before it is moved into place, so that no process considers the directory abandoned.
        let owner = tempfile::NamedTempFile::new_in(&dir)?;
        owner.as_file().try_lock().map_err(io::Error::from)?;
        let owner = owner.persist(dir.path().join(OWNER)).map_err(|error| error.error)?;
        Ok(Self { dir, _owner: owner })
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the directories in `parent` whose names begin with `prefix` and whose processes have ended. Those that cannot be removed
/// are skipped.
pub(super) fn remove_abandoned(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(prefix) || path.is_symlink() {
            continue;
        }
        if File::open(path.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok()) {
            // Blobs are read-only, but their directories are not. A directory of another user stays.
            let _ = fs::remove_dir_all(path);
        }
    }
}
