//! Temporary folders that tell whose they are: `.owner` in one is locked while its process lives, so that another process may
//! remove it where that one was killed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

const OWNER: &str = ".owner";
/// What it is called before it is locked.
const UNNAMED: &str = ".unlocked-";

/// A temporary folder of this process; it is removed when it is dropped.
pub(super) struct OwnedFolder {
    folder: tempfile::TempDir,
    _owner: File,
}

impl OwnedFolder {
    /// A new folder in `place`, by a name that begins so and that nobody else gives.
    pub(super) fn new_in(place: &Path, prefix: &str) -> io::Result<Self> {
        const TRIES: u32 = 10;
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_in(place, prefix) {
                // Another process took it for abandoned before it was locked.
                Err(error) if tries < TRIES && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WouldBlock) => {}
                made => return made,
            }
        }
    }

    fn try_in(place: &Path, prefix: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(place)?;
        // Locked before it has its name, so that nobody takes the folder for abandoned.
        let owner = tempfile::Builder::new().prefix(UNNAMED).tempfile_in(&folder)?;
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
        let is_free = |path: &Path| File::open(path).is_ok_and(|owner| owner.try_lock().is_ok());
        let abandoned = match path.join(OWNER).symlink_metadata() {
            Ok(_) => is_free(&path.join(OWNER)),
            // Killed before it had an owner; one that holds anything else is somebody's.
            Err(_) => {
                let held: io::Result<Vec<_>> = fs::read_dir(&path).and_then(Iterator::collect);
                held.is_ok_and(|held| match held.as_slice() {
                    [] => true,
                    [only] => only.file_name().to_string_lossy().starts_with(UNNAMED) && is_free(&only.path()),
                    _ => false,
                })
            }
        };
        if abandoned {
            before(&path);
            // Blobs are read-only, their folders are not. What is another user's stays.
            let _ = fs::remove_dir_all(path);
        }
    }
}
