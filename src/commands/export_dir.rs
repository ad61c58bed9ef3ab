//! The directory that `export` fills: new or empty, and filled as a whole, so that an interrupted export does not look finished.
//!
//! The content is written to a temporary directory. A new directory appears by one rename. An existing one keeps its owner, mode and
//! mount, and its entries are moved into it at the end; a kill during these renames leaves the temporary directory inside as a
//! sign, and the next export refuses the directory.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::CommandError;
use super::owned_dir::{OwnedDir, remove_abandoned};
use crate::store::failpoint;

const PREFIX: &str = ".pipeline-export-";
const HINT: &str = "name a new or an empty directory";

/// A directory to be filled. Its content is removed unless [`ExportDir::fill`] succeeds.
pub(super) struct ExportDir {
    dir: PathBuf,
    exists: bool,
    /// Inside the directory if it exists, else beside it: on the same file system.
    temporary: OwnedDir,
}

/// The temporary directory.
impl AsRef<Path> for ExportDir {
    fn as_ref(&self) -> &Path {
        self.temporary.path()
    }
}

impl ExportDir {
    /// Prepares a directory outside the store. Nothing is overwritten.
    ///
    /// # Errors
    /// If the path is not an empty directory, cannot be written, or is in the store.
    pub(super) fn claim(dir: &Path, store: &Path) -> Result<Self, CommandError> {
        let refuse = |message: String| CommandError::usage(message).hint(HINT);
        let name = dir.display();
        if dir.as_os_str().is_empty() {
            return Err(refuse("no directory is named".to_owned()));
        }
        let refuse_store = |dir: &Path| match is_in(dir, store) {
            true => Err(refuse(format!("{name} is in the store"))),
            false => Ok(()),
        };
        refuse_store(dir)?;
        let names = |entries: fs::ReadDir| -> io::Result<Vec<OsString>> {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
        };
        let exists = match fs::read_dir(dir).and_then(names) {
            Ok(held) => {
                let is_ours = |name: &OsString| name.to_string_lossy().starts_with(PREFIX);
                match (held.iter().any(is_ours), held.iter().all(is_ours)) {
                    (_, true) => remove_abandoned(dir, PREFIX),
                    (true, false) => return Err(refuse(format!("{name} holds an interrupted export"))),
                    (false, false) => return Err(refuse(format!("{name} is not empty"))),
                }
                // Another export into it may be under way.
                if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
                    return Err(refuse(format!("{name} is not empty")));
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(refuse(format!("cannot write to {name}: {error}"))),
        };
        let within = match dir.parent() {
            _ if exists => dir,
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let cannot = |error: io::Error| refuse(format!("cannot create {name}: {error}"));
        fs::create_dir_all(within).map_err(cannot)?;
        // A link on the path may lead into the store.
        refuse_store(within)?;
        remove_abandoned(within, PREFIX);
        let temporary = OwnedDir::new_in(within, PREFIX).map_err(cannot)?;
        fs::create_dir(temporary.path().join("all")).map_err(cannot)?;
        Ok(Self { dir: dir.to_owned(), exists, temporary })
    }

    /// Returns the directory to write the content to.
    pub(super) fn path(&self) -> PathBuf {
        self.temporary.path().join("all")
    }

    /// Moves the content to its place; if that fails, nothing of it is left there. A signal must not interrupt this
    /// ([`super::signals::Temporary::undisturbed`]).
    ///
    /// # Errors
    /// If the directory is not empty any more, or cannot be written.
    pub(super) fn fill(&self) -> Result<(), CommandError> {
        let moved = match self.exists {
            true => self.move_entries(),
            false => fs::rename(self.path(), &self.dir),
        };
        moved
            .map_err(|error| CommandError::usage(format!("cannot write to {}: {error}", self.dir.display())).hint(HINT))
    }

    fn move_entries(&self) -> io::Result<()> {
        let mut moved: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(self.path())?.collect::<Result<Vec<_>, _>>()? {
            let target = self.dir.join(entry.file_name());
            let result = match target.symlink_metadata() {
                Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not empty any more")),
                Err(_) => fs::rename(entry.path(), &target),
            };
            if let Err(error) = result {
                for back in moved {
                    let _ = back.file_name().map_or(Ok(()), |name| fs::rename(&back, self.path().join(name)));
                }
                return Err(error);
            }
            moved.push(target);
            failpoint::pass(failpoint::EXPORT_BETWEEN_MOVES);
        }
        Ok(())
    }
}

/// Whether a path, which may not exist yet, is in the store.
fn is_in(path: &Path, store: &Path) -> bool {
    let existing = path.ancestors().find_map(|path| match path.as_os_str().is_empty() {
        true => fs::canonicalize(".").ok(),
        false => fs::canonicalize(path).ok(),
    });
    existing.is_some_and(|existing| existing.starts_with(store))
}
