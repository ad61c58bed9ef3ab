//! Opening a store: whether a directory is a store, its format, and the remains of earlier crashes.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use contract::Cancel;
use nix::unistd::{AccessFlags, access};

use super::layout::DIRS;
use super::{
    Builds, FORMAT, Layout, Leases, Objects, Result, Root, Runs, Sources, Store, StoreError, Work, failpoint, files,
};
use crate::clock;

const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by pipeline.\n\
    # For information about cache directory tags, see https://bford.info/cachedir/\n";

/// The age from which a file in `tmp/` is considered abandoned.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// Opens the store at `path`, creating it if needed.
    ///
    /// # Errors
    /// Returns an error if the path is a file or a directory with other contents, the format is unknown, or the store cannot be written.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_until(path, &Cancel::default())
    }

    /// Does the same as [`Store::open`] for a store that stops hashing and waiting, with [`StoreError::Interrupted`], once `stop` is set.
    pub fn open_until(path: &Path, stop: &Cancel) -> Result<Self> {
        Self::open_writable(path, stop, false)
    }

    /// Does the same as [`Store::open`] after moving aside files in place of the store's directories.
    pub fn open_to_repair(path: &Path) -> Result<Self> {
        Self::open_writable(path, &Cancel::default(), true)
    }

    fn open_writable(path: &Path, stop: &Cancel, repairs: bool) -> Result<Self> {
        let exists = Self::is_at(path)?;
        fs::create_dir_all(path).map_err(StoreError::io("create the store", path))?;
        let root = fs::canonicalize(path).map_err(StoreError::io("open the store", path))?;
        let store = Self::with(Root { layout: Layout::new(root.clone()), writes: true, stop: stop.clone() });
        let version = root.join("version");
        if !exists || files::read(&version).map_or(true, |text| text.trim() != FORMAT.to_string()) {
            failpoint::pass("open-before-version");
            files::replace(&root, &version, format!("{FORMAT}\n").as_bytes())?;
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            files::replace(&root, &tag, CACHEDIR_TAG.as_bytes())?;
        }
        for dir in DIRS.map(|name| root.join(name)) {
            if repairs && dir.symlink_metadata().is_ok() && !dir.is_dir() {
                let aside = files::move_aside(&dir, &root)?;
                files::make_dir(&root.join("damaged"))?;
                store.root.move_aside(&aside)?;
            }
            files::make_dir(&dir)?;
        }
        store.remove_abandoned();
        store.objects.compact();
        store.sources.compact();
        Ok(store)
    }

    /// Opens the store at `path` without writing anything, now or later: damage is reported and left in place. If there is no store, the
    /// result is an empty store.
    ///
    /// # Errors
    /// Returns an error if the path is a file or a directory with other contents, or the format is unknown.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let root = if Self::is_at(path)? { fs::canonicalize(path) } else { std::path::absolute(path) };
        let root = root.map_err(StoreError::io("open the store", path))?;
        Ok(Self::with(Root { layout: Layout::new(root), writes: false, stop: Cancel::default() }))
    }

    /// Returns the same store, read-only.
    pub fn as_reader(&self) -> Self {
        Self::with(self.root.as_reader())
    }

    /// Returns whether there is a store at `path` that this program can use; false if one can be created. Returns the errors of
    /// [`Store::open_read_only`].
    pub fn is_at(path: &Path) -> Result<bool> {
        let cannot = |attempt| StoreError::io(attempt, path);
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                return Err(StoreError::NotADirectory(path.to_owned()));
            }
            Err(error) => return Err(cannot("open the store")(error)),
            Ok(metadata) if !metadata.is_dir() => return Err(StoreError::NotADirectory(path.to_owned())),
            Ok(_) => {}
        }
        let version = path.join("version");
        let found = match files::read(&version) {
            Ok(text) if text.trim() == FORMAT.to_string() => return Ok(true),
            Ok(text) => Some(text.trim().chars().take(32).collect::<String>()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) if error.kind() == ErrorKind::InvalidData => Some("unreadable".to_owned()),
            Err(error) => return Err(StoreError::io("read", &version)(error)),
        };
        // The version file was lost: it is written before the tag.
        if found.as_ref().is_none_or(|text| text.parse::<u64>().is_err()) && has_our_tag(path) {
            return Ok(true);
        }
        if let Some(found) = found {
            return Err(StoreError::Format { path: path.to_owned(), found });
        }
        // A directory that contains only a note about its purpose can become a store.
        let is_note = |name: &str| name.starts_with('.') || name.starts_with("README") || name == "CACHEDIR.TAG";
        for entry in fs::read_dir(path).map_err(cannot("open the store"))? {
            if !is_note(&entry.map_err(cannot("open the store"))?.file_name().to_string_lossy()) {
                // Another process may have created a store here meanwhile.
                return if version.exists() { Self::is_at(path) } else { Err(StoreError::NotAStore(path.to_owned())) };
            }
        }
        Ok(false)
    }

    fn with(root: Root) -> Self {
        let objects = Objects::new(root.clone());
        let builds = Builds::new(root.clone(), objects.clone());
        let work = Work::new(root.clone(), objects.clone());
        let leases = Leases::new(root.clone());
        let runs = Runs::new(root.clone(), builds.clone(), leases.clone());
        let sources = Sources::new(root.clone());
        Self { root, objects, builds, work, runs, leases, sources }
    }

    /// Checks whether a run could be recorded, and writes nothing.
    pub fn check_writable(&self) -> Result<()> {
        let dirs = DIRS.map(|name| self.layout().dir(name));
        for path in dirs.iter().chain([&self.layout().gate()]).filter(|path| path.exists()) {
            access(path, AccessFlags::W_OK).map_err(|error| StoreError::io("write", path)(error.into()))?;
        }
        Ok(())
    }

    /// Removes the remains of crashes in `tmp/`. What cannot be removed stays until the next time.
    fn remove_abandoned(&self) {
        let old = |entry: &fs::DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|time| clock::since(time) > ABANDONED)
        };
        let abandoned: Vec<_> = fs::read_dir(self.layout().tmp()).into_iter().flatten().flatten().filter(old).collect();
        // The clock may jump: age alone does not prove that a file is unused.
        if !abandoned.is_empty()
            && let Some(_guard) = self.leases.exclusive_if_idle()
        {
            abandoned.iter().for_each(|entry| drop(files::remove(&entry.path())));
        }
    }
}

/// Returns whether the directory is a store that lost its version file: it has the store's tag, or lost the tag too and has all
/// directories.
fn has_our_tag(path: &Path) -> bool {
    match files::read(&path.join("CACHEDIR.TAG")) {
        Ok(tag) => tag == CACHEDIR_TAG,
        Err(_) => DIRS.iter().all(|name| path.join(name).is_dir()),
    }
}
