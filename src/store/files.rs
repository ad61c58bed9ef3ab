//! The store's own files: writes that a kill cannot tear (temporary name, fsync, rename, fsync of the directory), reads
//! that check the file type, and names in directories.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::{Result, StoreError, is_link};
use super::failpoint;

/// The maximum size of a text file that is read, in bytes: more than a tree of a million files takes.
pub(super) const LARGEST: u64 = 1 << 30;
/// Permissions of files that are replaced as a whole.
pub(super) const WRITABLE: u32 = 0o644;
/// Permissions of blobs and trees.
pub(super) const READ_ONLY: u32 = 0o444;

/// Returns open options that neither block on a pipe nor follow a link: the store has neither in place of a file.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW);
    options
}

/// Opens a lock file, creating it if needed.
pub(super) fn open_lock(path: &Path) -> Result<File> {
    let opened = options().read(true).write(true).create(true).truncate(false).open(path);
    opened.map_err(StoreError::io("lock", path))
}

/// Reads a text file. Returns [`ErrorKind::InvalidData`] if it is not a regular file, too large, or not UTF-8.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let opened = options().read(true).open(path);
    let mut file = opened.map_err(|error| if is_link(&error) { invalid("it is a link") } else { error })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(invalid("it is not a regular file"));
    }
    if metadata.len() > LARGEST {
        return Err(invalid("it is too large"));
    }
    // Read in one call: a run in which nothing changed reads thousands of these files.
    let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Writes `content` to `path`, replacing an existing file. `temporary` is a directory on the same file system.
pub(super) fn replace(temporary: &Path, path: &Path, content: &[u8]) -> Result<()> {
    let file = prepare(temporary, path, content, WRITABLE)?;
    failpoint::pass("write-before-rename");
    file.persist(path).map_err(|error| StoreError::io("write", path)(error.error))?;
    failpoint::pass("write-after-rename");
    sync_parent(path)
}

/// Writes `content` to `path` unless the path exists; returns whether it was written.
pub(super) fn create(temporary: &Path, path: &Path, content: &[u8], mode: u32) -> Result<bool> {
    let file = prepare(temporary, path, content, mode)?;
    failpoint::pass("create-before-rename");
    match file.persist_noclobber(path) {
        Ok(_) => {
            failpoint::pass("create-after-rename");
            sync_parent(path).map(|()| true)
        }
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
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

/// Makes `path` a symbolic link to `target`, atomically even if another link exists there.
pub(super) fn replace_link(temporary: &Path, target: &str, path: &Path) -> Result<()> {
    let make = || {
        let fresh = tempfile::Builder::new().make_in(temporary, |fresh| symlink(target, fresh))?;
        fresh.into_temp_path().persist(path).map_err(|error| error.error)
    };
    make().map_err(StoreError::io("write", path))
}

/// Creates a directory with its parents, and syncs its entry.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(StoreError::io("create", path))?;
    sync_parent(path)
}

/// Creates the parent directory of `path`.
pub(super) fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), make_dir)
}

/// Syncs the directory of `path`, so that a rename or a creation in it survives a power failure.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", dir))
}

/// Moves `path` into `dir` under an unused name, and returns the new path.
pub(super) fn move_aside(path: &Path, dir: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let candidate = |number: u32| dir.join(if number == 0 { name.clone() } else { format!("{name}.{number}") });
    let mut number = 0;
    while candidate(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let aside = candidate(number);
    fs::rename(path, &aside).map_err(StoreError::io("move", path))?;
    Ok(aside)
}

/// Removes a file, or a directory with everything in it, if it exists.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    };
    ignore_missing(removed).map_err(StoreError::io("remove", path))
}

/// Ignores the error that a path does not exist: another process was faster.
pub(super) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Returns the names in a directory, sorted; an empty list if the directory does not exist. Names that are not UTF-8
/// are skipped.
pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) || is_link(&error) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io("read", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(StoreError::io("read", dir))?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Returns the size in bytes of a file, or of all files in a directory; unreadable files count as 0.
pub(super) fn size_of(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}
