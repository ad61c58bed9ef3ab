//! A folder that is new or empty, and is filled as a whole: what is interrupted before its end leaves nothing that looks
//! finished. A new folder appears with all that it holds; one that was there before stays what it was, with its owner, rights
//! and mount, and its entries are moved into it at the end, one after the other.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::CommandError;
use super::owned_folder::{OwnedFolder, remove_abandoned};
use crate::store::failpoint;

/// In the temporary folder, when its entries are about to be moved: `<marks> <path>`, a line a file.
const MOVING: &str = ".moving";
const PREFIX: &str = ".pipeline-export-";
const HINT: &str = "give a new or an empty folder";

/// A folder to be filled. What it is to hold is made in a temporary folder, which is removed unless [`FreshFolder::fill`] is
/// through.
pub(super) struct FreshFolder {
    folder: PathBuf,
    /// Whether it is there, and stays what it is: a mount point, or somebody's with its own rights.
    is_there: bool,
    /// Inside of the folder where that is there, else beside it: on the same file system either way.
    temporary: OwnedFolder,
}

/// The temporary folder.
impl AsRef<Path> for FreshFolder {
    fn as_ref(&self) -> &Path {
        self.temporary.path()
    }
}

impl FreshFolder {
    /// Nothing of anyone's is overwritten, nor is anything written into the store.
    ///
    /// # Errors
    /// When the folder is not empty, is no folder, cannot be written or lies in the store.
    pub(super) fn claim(folder: &Path, store: &Path) -> Result<Self, CommandError> {
        let refuse = |message: String| CommandError::usage(message).hint(HINT);
        let name = folder.display();
        if lies_in(folder, store) {
            return Err(refuse(format!("{name} lies in the store")));
        }
        // Of exports that were killed, with what they had moved by then.
        remove_abandoned(folder, PREFIX, |temporary| take_back(temporary, folder));
        let is_there = match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
            _ if folder.as_os_str().is_empty() => return Err(refuse("no folder is named".to_owned())),
            Ok(true) => return Err(refuse(format!("{name} is not empty"))),
            Ok(false) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(refuse(format!("cannot write to {name}: {error}"))),
        };
        let within = match folder.parent() {
            _ if is_there => folder,
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let cannot = |error: io::Error| refuse(format!("cannot make {name}: {error}"));
        fs::create_dir_all(within).map_err(cannot)?;
        // Where a folder on the way leads elsewhere.
        if lies_in(within, store) {
            return Err(refuse(format!("{name} lies in the store")));
        }
        remove_abandoned(within, PREFIX, |_| ());
        let temporary = OwnedFolder::new_in(within, PREFIX).map_err(cannot)?;
        fs::create_dir(temporary.path().join("all")).map_err(cannot)?;
        Ok(Self { folder: folder.to_owned(), is_there, temporary })
    }

    /// Where to write what it is to hold.
    pub(super) fn path(&self) -> PathBuf {
        self.temporary.path().join("all")
    }

    /// Puts what was written in its place; where that fails nothing of it is left there. A signal must not come in between
    /// ([`super::signals::Temporary::undisturbed`]).
    ///
    /// # Errors
    /// When something else is there by now, or the folder cannot be written.
    pub(super) fn fill(&self) -> Result<(), CommandError> {
        let moved = match self.is_there {
            true => self.move_children(),
            false => fs::rename(self.path(), &self.folder),
        };
        moved.map_err(|error| {
            CommandError::usage(format!("cannot write to {}: {error}", self.folder.display())).hint(HINT)
        })
    }

    fn move_children(&self) -> io::Result<()> {
        let mut moved: Vec<PathBuf> = Vec::new();
        // For whoever comes after a kill.
        let mut list = fs::File::create_new(self.temporary.path().join(MOVING))?;
        for (path, metadata) in files(&self.path())? {
            list.write_all(format!("{} ", marks(&metadata)).as_bytes())?;
            list.write_all(path.as_os_str().as_bytes())?;
            list.write_all(b"\n")?;
        }
        list.sync_all()?;
        let mut children = fs::read_dir(self.path())?.collect::<Result<Vec<_>, _>>()?;
        // Folders first, so that what is filled in part does not look finished.
        children.sort_by_key(|child| (!child.path().is_dir(), child.file_name()));
        for child in children {
            let target = self.folder.join(child.file_name());
            let free = match target.symlink_metadata() {
                Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not empty any more")),
                Err(_) => fs::rename(child.path(), &target),
            };
            if let Err(error) = free {
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

/// Removes from a folder what an export that was killed had moved there: the files that it listed and that nobody has touched
/// since, and the folders that are empty without them. One that had moved all is whole.
fn take_back(temporary: &Path, folder: &Path) {
    if fs::read_dir(temporary.join("all")).is_ok_and(|mut left| left.next().is_none()) {
        return;
    }
    let list = fs::read(temporary.join(MOVING)).unwrap_or_default();
    let mut folders = BTreeSet::new();
    for line in list.split(|byte| *byte == b'\n') {
        let Some(space) = line.iter().position(|byte| *byte == b' ') else { continue };
        let (marked, path) = (&line[..space], Path::new(OsStr::from_bytes(&line[space + 1..])));
        // Names, and no way out of the folder.
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let place = folder.join(path);
        let untouched = |found: Metadata| found.is_file() && marks(&found).as_bytes() == marked;
        if place.symlink_metadata().is_ok_and(untouched) && fs::remove_file(place).is_ok() {
            folders.extend(path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).map(Path::to_owned));
        }
    }
    // The deepest first; one that holds something of somebody's stays.
    folders.iter().rev().for_each(|path| drop(fs::remove_dir(folder.join(path))));
}

/// What tells a file from any other and from itself when it was touched: inode, bytes, time of modification.
fn marks(metadata: &Metadata) -> String {
    format!("{}/{}/{}.{}", metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// The files below a folder, by path from there.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let (path, metadata) = (below.join(entry.file_name()), entry.path().symlink_metadata()?);
            if metadata.is_dir() { folders.push(path) } else { files.push((path, metadata)) }
        }
    }
    Ok(files)
}

/// Whether a place is in the store, as far as it is there.
fn lies_in(place: &Path, store: &Path) -> bool {
    let there = place.ancestors().find_map(|place| match place.as_os_str().is_empty() {
        true => fs::canonicalize(".").ok(),
        false => fs::canonicalize(place).ok(),
    });
    there.is_some_and(|there| there.starts_with(store))
}
