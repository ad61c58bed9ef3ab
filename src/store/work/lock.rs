//! The lock of a key, so that each key is built once: a second run waits, reports the holder, then finds the output.
//!
//! It is an operating system lock on `locks/<key>`, which the system releases when the process ends: no lock ever needs to be removed by
//! hand, and the existence of the file has no meaning. While the lock is held, the file names its holder, for messages only. `cache gc`
//! removes the lock files of removed keys, so a lock on a file that has been removed meanwhile is not valid.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use contract::Digest;
use nix::unistd::gethostname;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::events::figures;
use crate::store::{Result, StoreError, files, milliseconds};

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// The process id.
    pub pid: u32,
    /// The host name, for a store that several machines share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its task: the stage that it builds; for a lease, the run. The files and JSON call it `stage`.
    #[serde(rename = "stage")]
    pub task: String,
    /// The time at which it took the lock, in milliseconds since 1970.
    pub since: u64,
}

impl LockHolder {
    /// Describes this process, working on a stage or run from now on.
    pub fn this(task: &str) -> Self {
        let host = gethostname().ok().and_then(|name| name.into_string().ok());
        Self { pid: std::process::id(), host, task: task.to_owned(), since: milliseconds(clock::now()) }
    }

    /// Formats it without the task: `pid 4121 on build-2, for 12:41`.
    pub fn process(&self) -> String {
        format!("{}, {}", self.id(), self.age())
    }

    fn id(&self) -> String {
        let host = self.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        format!("pid {}{host}", self.pid)
    }

    fn age(&self) -> String {
        let seconds = milliseconds(clock::now()).saturating_sub(self.since) / 1000;
        format!("for {}", figures::clock(seconds as f64))
    }
}

/// Formats it as `pid 4121 on build-2, stage train, for 12:41`.
impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, stage {}, {}", self.id(), self.task, self.age())
    }
}

/// The lock of a key, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct KeyLock {
    key: Digest,
    file: File,
}

impl KeyLock {
    /// Returns the key that the lock belongs to.
    pub const fn key(&self) -> Digest {
        self.key
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Emptied so that the file does not name a former holder. Closing it releases the lock.
        let _ = self.file.set_len(0);
    }
}

/// The state of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// No process holds it.
    Free,
    /// A process or thread holds it; `None` if it has not written its name yet, or could not, for example because the disk is full.
    Held(Option<LockHolder>),
}

impl KeyLock {
    /// Takes the lock at `path`; `None` if another process or thread holds it.
    pub(super) fn take(path: &Path, key: Digest, holder: &LockHolder) -> Result<Option<Self>> {
        loop {
            let mut file = files::open_lock(path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
                Ok(()) => {}
            }
            if file.metadata().map_err(StoreError::io("lock", path))?.nlink() == 0 {
                continue;
            }
            // A failure to write the holder affects only messages.
            let text = serde_json::to_vec(holder).unwrap_or_default();
            let _ = file.set_len(0).and_then(|()| file.write_all(&text));
            return Ok(Some(Self { key, file }));
        }
    }
}

impl LockState {
    /// Tests the lock at `path` without writing anything.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let mut file = match files::options().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Free),
            Err(error) => return Err(StoreError::io("read", path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Self::Free),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
                Ok(Self::Held(read.ok().and_then(|_| serde_json::from_str(&text).ok())))
            }
            // A lock that cannot be tested may be held.
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", path)(error)),
        }
    }
}
