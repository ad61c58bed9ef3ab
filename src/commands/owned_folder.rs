//! Temporary folders that tell whose they are: `.owner` in one is locked while its process lives, so that another process may
//! remove it where that one was killed.

use std::fs::{self, File};
use std::io;
use std::path::Path;

const OWNER: &str = ".owner";

/// A temporary folder of this process; it is removed when it is dropped.
pub(super) struct OwnedFolder {
    folder: tempfile::TempDir,
    _owner: File,
}

impl OwnedFolder {
    /// A new folder in `place`, by a name that begins so and that nobody else gives.
    pub(super) fn new_in(place: &Path, prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(place)?;
        // Locked before it has its name, so that nobody takes the folder for abandoned.
        let owner = tempfile::NamedTempFile::new_in(&folder)?;
        owner.as_file().try_lock().map_err(io::Error::from)?;
        let owner = owner.persist(folder.path().join(OWNER)).map_err(|error| error.error)?;
        Ok(Self { folder, _owner: owner })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders in `place` whose names begin so and whose processes are gone, each after `before` has seen it. What
/// cannot be removed stays.
pub(super) fn remove_abandoned(place: &Path, prefix: &str, before: impl Fn(&Path)) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(prefix) || path.is_symlink() {
            continue;
        }
        // One without an owner may be anybody's.
        let abandoned = File::open(path.join(OWNER)).is_ok_and(|owner| owner.try_lock().is_ok());
        if abandoned {
            before(&path);
            // Blobs are read-only, their folders are not. What is another user's stays.
            let _ = fs::remove_dir_all(path);
        }
    }
}
