//! Leases: the trees that a running process reads or has just built, which must not be removed.
//!
//! A lease is a file in `leases/`, locked by its process, so that it ends with the process. Its first line names the process; each further
//! line is the digest of a tree in use. The guard, a lock on `leases/.gate`, orders leases and removals: an output is found and leased
//! under a shared guard, and removed under an exclusive one. So an output is either leased before it can be removed, or removed before it
//! is looked up.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use contract::Digest;

use crate::store::root::lock_mutex;
use crate::store::{LockHolder, Result, Root, StoreError, failpoint, files};

const DIR: &str = "leases";
const GATE: &str = ".gate";
/// The interval between two attempts to take a lock.
const POLL: Duration = Duration::from_millis(20);

/// The leases of a store, and its guard.
#[derive(Debug, Clone)]
pub struct Leases {
    root: Root,
}

/// The trees that one process uses. It ends when it is dropped or the process ends.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    file: Mutex<File>,
}

/// While it is held shared, nothing is removed from the store; while it is held exclusively, nothing is found or leased. It is released on
/// drop.
#[derive(Debug)]
pub struct StoreGuard {
    /// `None` in a read-only store that was never opened for writing.
    _file: Option<File>,
}

/// A lease of a running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The process; its task is the run, such as `quickstart.3`.
    pub holder: LockHolder,
    /// The trees in use.
    pub trees: BTreeSet<Digest>,
}

impl LeaseInfo {
    /// Returns the name under which it keeps trees: `quickstart.3 (running)`.
    pub fn holder_name(&self) -> String {
        format!("{} (running)", self.holder.task)
    }

    /// Returns the run's name and number; a reproduction has no number.
    pub fn run(&self) -> (&str, Option<u32>) {
        let reference = &self.holder.task;
        let parts = reference.rsplit_once('.').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        parts.map_or((reference, None), |(name, number)| (name, Some(number)))
    }
}

impl Lease {
    /// Adds trees. The caller must hold the guard under which they were found.
    pub fn hold<'d>(&self, trees: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        // A separate line, even if the previous line was truncated by a full disk.
        let text = trees.into_iter().fold("\n".to_owned(), |text, tree| text + &format!("{tree}\n"));
        failpoint::pass("lease-before-append");
        lock_mutex(&self.file).write_all(text.as_bytes()).map_err(StoreError::io("write", &self.path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A lease without its process has no effect.
        let _ = fs::remove_file(&self.path);
    }
}

impl Leases {
    pub(in crate::store) fn new(root: Root) -> Self {
        Self { root }
    }

    /// Starts an empty lease of this process for a run, such as `quickstart.3`.
    pub fn start(&self, run: &str) -> Result<Lease> {
        self.root.check_writable()?;
        // A removal that is under way has already read the leases.
        let guard = self.guard()?;
        self.start_under(&guard, run)
    }

    /// Does the same as [`Leases::start`] under a guard that is already held.
    pub(in crate::store) fn start_under(&self, _guard: &StoreGuard, run: &str) -> Result<Lease> {
        let holder = LockHolder::this(run);
        let dir = self.root.layout.dir(DIR);
        let open = || {
            // It is locked before it is moved into the directory: an unlocked lease is stale. Other users of the store read it.
            let (prefix, permissions) = (format!("{}-", holder.pid), Permissions::from_mode(0o644));
            let mut builder = tempfile::Builder::new();
            let mut file = builder.prefix(&prefix).permissions(permissions).tempfile_in(self.root.layout.tmp())?;
            file.as_file().lock()?;
            let text = serde_json::to_string(&holder).map_err(std::io::Error::other)?;
            file.write_all(format!("{text}\n").as_bytes())?;
            failpoint::pass("lease-before-name");
            let path = dir.join(file.path().file_name().unwrap_or_default());
            Ok(Lease { file: Mutex::new(file.persist_noclobber(&path)?), path })
        };
        open().map_err(StoreError::io("write", &dir))
    }

    /// Waits until nothing is being removed, and prevents removals until the guard is dropped. Returns [`StoreError::Interrupted`] if the
    /// store was told to stop meanwhile.
    pub fn guard(&self) -> Result<StoreGuard> {
        match self.gate()? {
            Some(file) => self.wait(file, File::try_lock_shared),
            None => Ok(StoreGuard { _file: None }),
        }
    }

    /// Does the same as [`Leases::guard`] without waiting; returns `None` while something is being removed.
    pub fn try_guard(&self) -> Option<StoreGuard> {
        let file = self.gate().ok()?;
        file.as_ref().map_or(Ok(()), File::try_lock_shared).ok()?;
        Some(StoreGuard { _file: file })
    }

    /// Waits until no process finds or removes anything, and prevents both until the guard is dropped.
    pub(in crate::store) fn exclusive_guard(&self) -> Result<StoreGuard> {
        self.root.check_writable()?;
        self.wait(files::open_lock(&self.root.layout.gate())?, File::try_lock)
    }

    /// Returns the exclusive guard without waiting; `None` while a process uses the store.
    pub(in crate::store) fn exclusive_if_idle(&self) -> Option<StoreGuard> {
        let file = files::open_lock(&self.root.layout.gate()).ok()?;
        file.try_lock().ok()?;
        let guard = StoreGuard { _file: Some(file) };
        self.all().ok()?.is_empty().then_some(guard)
    }

    /// Opens the lock file of the guard; `None` if a read-only store has no such file.
    fn gate(&self) -> Result<Option<File>> {
        let path = self.root.layout.gate();
        if self.root.writes {
            return files::open_lock(&path).map(Some);
        }
        match files::options().read(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some).map_err(StoreError::io("lock", &path)),
        }
    }

    fn wait(&self, file: File, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<StoreGuard> {
        loop {
            match lock(&file) {
                Ok(()) => return Ok(StoreGuard { _file: Some(file) }),
                Err(TryLockError::WouldBlock) if self.root.stop.is_set() => return Err(StoreError::Interrupted),
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &self.root.layout.gate())(error)),
            }
        }
    }

    /// Returns the leases of running processes. Stale ones are removed if the store is writable.
    pub fn all(&self) -> Result<Vec<LeaseInfo>> {
        let dir = self.root.layout.dir(DIR);
        let mut leases = Vec::new();
        for name in files::names(&dir)?.iter().filter(|name| *name != GATE) {
            leases.extend(self.read(&dir.join(name))?);
        }
        Ok(leases)
    }

    fn read(&self, path: &Path) -> Result<Option<LeaseInfo>> {
        let mut file = match files::options().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", path)(error)),
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            Ok(()) => {
                if self.root.writes {
                    // It may be gone already, or belong to another user.
                    let _ = fs::remove_file(path);
                }
                return Ok(None);
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(StoreError::io("read", path))?;
        let mut lines = text.lines();
        let holder = lines.next().and_then(|line| serde_json::from_str(line).ok());
        let trees = lines.filter_map(|line| line.parse().ok()).collect();
        Ok(holder.map(|holder| LeaseInfo { holder, trees }))
    }
}
