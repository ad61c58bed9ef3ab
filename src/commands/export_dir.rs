//! The directory that `export` creates. It is created by one rename, so that an interrupted export does not look
//! finished.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::CommandError;
use super::owned_dir::{OwnedDir, remove_abandoned};

const PREFIX: &str = ".pipeline-export-";
const HINT: &str = "name a new directory";

/// A directory to be created. Its content is removed unless [`ExportDir::publish`] succeeds.
pub(super) struct ExportDir {
    dir: PathBuf,
    /// The temporary directory beside it, on the same file system.
    temporary: OwnedDir,
}

/// The temporary directory.
impl AsRef<Path> for ExportDir {
    fn as_ref(&self) -> &Path {
        self.temporary.path()
    }
}

impl ExportDir {
    /// Prepares a new directory outside the store.
    ///
    /// # Errors
    /// Returns an error if the path exists, cannot be written, or is in the store.
    pub(super) fn claim(dir: &Path, store: &Path) -> Result<Self, CommandError> {
        let refuse = |message: String| CommandError::usage(message).hint(HINT);
        let name = dir.display();
        let Some(parent) = dir.parent() else { return Err(refuse(format!("cannot create '{name}'"))) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        if dir.symlink_metadata().is_ok() {
            return Err(refuse(format!("'{name}' already exists")));
        }
        let refuse_store = || match is_in(parent, store) {
            true => Err(refuse(format!("'{name}' is in the store"))),
            false => Ok(()),
        };
        refuse_store()?;
        let cannot = |error: io::Error| refuse(format!("cannot create '{name}': {error}"));
        fs::create_dir_all(parent).map_err(cannot)?;
        // A symbolic link on the path may lead into the store.
        refuse_store()?;
        remove_abandoned(parent, PREFIX);
        let temporary = OwnedDir::new_in(parent, PREFIX).map_err(cannot)?;
        fs::create_dir(temporary.path().join("all")).map_err(cannot)?;
        Ok(Self { dir: dir.to_owned(), temporary })
    }

    /// Returns the directory to write the content to.
    pub(super) fn path(&self) -> PathBuf {
        self.temporary.path().join("all")
    }

    /// Moves the content to the directory. A signal must not interrupt this
    /// ([`super::signals::Temporary::undisturbed`]).
    ///
    /// # Errors
    /// Returns an error if the directory exists by now.
    pub(super) fn publish(&self) -> Result<(), CommandError> {
        let cannot = |error| CommandError::usage(format!("cannot create '{}': {error}", self.dir.display())).hint(HINT);
        fs::rename(self.path(), &self.dir).map_err(cannot)
    }
}

/// Returns whether a path, which may not exist yet, is inside the store.
fn is_in(path: &Path, store: &Path) -> bool {
    let existing = path.ancestors().find_map(|path| match path.as_os_str().is_empty() {
        true => fs::canonicalize(".").ok(),
        false => fs::canonicalize(path).ok(),
    });
    existing.is_some_and(|existing| existing.starts_with(store))
}
