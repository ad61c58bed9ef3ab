//! Temporary directories with an owner: the file `.owner` in one is locked while its process lives, so that other processes can
//! remove it after a kill.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

const OWNER: &str = ".owner";
/// The prefix of the file's name before it is locked.
const UNLOCKED: &str = ".unlocked-";

/// A temporary directory of this process, removed on drop.
pub(super) struct OwnedDir {
    dir: tempfile::TempDir,
    _owner: File,
}

impl OwnedDir {
    /// Creates a directory in `parent` with a unique name that begins with `prefix`.
    pub(super) fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        const TRIES: u32 = 10;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_in(parent, prefix) {
                // Another process considered it abandoned before it was locked.
                Err(error) if tries < TRIES && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WouldBlock) => {}
                created => return created,
            }
        }
    }

    fn try_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        // Locked before it has its name, so that no process considers the directory abandoned.
        let owner = tempfile::Builder::new().prefix(UNLOCKED).tempfile_in(&dir)?;
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
        let is_free = |path: &Path| File::open(path).is_ok_and(|owner| owner.try_lock().is_ok());
        let is_abandoned = match path.join(OWNER).symlink_metadata() {
            Ok(_) => is_free(&path.join(OWNER)),
            // Killed before it had an owner; one with any other content is not ours.
            Err(_) => {
                let held: io::Result<Vec<_>> = fs::read_dir(&path).and_then(Iterator::collect);
                held.is_ok_and(|held| match held.as_slice() {
                    [] => true,
                    [only] => only.file_name().to_string_lossy().starts_with(UNLOCKED) && is_free(&only.path()),
                    _ => false,
                })
            }
        };
        if is_abandoned {
            // Blobs are read-only, their directories are not. One of another user stays.
            let _ = fs::remove_dir_all(path);
        }
    }
}
