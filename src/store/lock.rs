//! One lock a key, so that each key is built once: a second run waits, says for whom, then finds the output.
//!
//! It is the operating system's lock on `locks/<key>`, which ends with the process that holds it, however that ends: no
//! lock ever needs a manual unlock, and the file, which is never deleted, means nothing by being there. While a lock is
//! held the file holds who holds it, for messages only.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use contract::Digest;
use nix::unistd::gethostname;
use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};
use super::names::names_if_folder;
use super::record::milliseconds;
use super::{SourceSnapshot, Store, failpoint, text, write};
use crate::clock;
use crate::events::figures;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderInfo {
    /// Its process.
    pub pid: u32,
    /// Its machine, where the store is shared by several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What it builds: a stage; of a lease, a run.
    pub stage: String,
    /// Since when: milliseconds since 1970.
    pub since: u64,
}

impl HolderInfo {
    /// This process, building a stage from now on.
    pub fn this(stage: &str) -> Self {
        let host = gethostname().ok().and_then(|name| name.into_string().ok());
        Self { pid: std::process::id(), host, stage: stage.to_owned(), since: milliseconds(clock::now()) }
    }

    /// `pid 4121 on build-2, for 12:41`.
    pub fn process(&self) -> String {
        format!("{}, {}", self.who(), self.age())
    }

    fn who(&self) -> String {
        let host = self.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        format!("pid {}{host}", self.pid)
    }

    fn age(&self) -> String {
        let seconds = milliseconds(clock::now()).saturating_sub(self.since) / 1000;
        format!("for {}", figures::clock(seconds as f64))
    }
}

/// `pid 4121 on build-2, stage train, for 12:41`.
impl fmt::Display for HolderInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, stage {}, {}", self.who(), self.stage, self.age())
    }
}

/// The right to build a key, until it is dropped or the process ends.
#[derive(Debug)]
pub struct KeyLock {
    key: Digest,
    file: File,
}

impl KeyLock {
    /// The key that may be built.
    pub const fn key(&self) -> Digest {
        self.key
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Whoever looks next should not read of a holder who is gone. Closing the file ends the lock.
        let _ = self.file.set_len(0);
    }
}

/// The answer to [`Store::held`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// Nobody holds it.
    Free,
    /// A process or thread holds it; `None` where it has not written who it is, or could not, as on a full disk.
    By(Option<HolderInfo>),
}

/// Where a stage works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Survives a crash; the next run of the key finds it as it was left.
    pub scratch: PathBuf,
    /// Empty: for the output of this run.
    pub staging: PathBuf,
    /// Whether scratch of an earlier try was there and was emptied.
    pub emptied: bool,
}

/// In a key's work folder: what its scratch was made from.
const GROUND: &str = "ground";

impl Store {
    /// Takes the lock of a key; `None` where another process or thread holds it.
    ///
    /// # Errors
    /// When the lock file cannot be opened or the file system has no locks.
    pub fn lock(&self, key: Digest, holder: &HolderInfo) -> Result<Option<KeyLock>> {
        self.writable()?;
        let path = self.layout().lock(key);
        let mut file = text::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("lock", &path))?;
        match file.try_lock() {
            Ok(()) => {
                // Who holds it is for messages: a failure to write it changes nothing.
                let text = serde_json::to_vec(holder).unwrap_or_default();
                let _ = file.set_len(0).and_then(|()| file.write_all(&text));
                Ok(Some(KeyLock { key, file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// Whether the lock of a key is held. Writes nothing.
    ///
    /// # Errors
    /// When the lock file cannot be read.
    pub fn held(&self, key: Digest) -> Result<Held> {
        let path = self.layout().lock(key);
        let mut file = match text::options().read(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Held::Free),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        Ok(match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Held::By(read_holder(&mut file)),
            _ => Held::Free,
        })
    }

    /// Every key that is being built now, with who builds it. Writes nothing.
    ///
    /// # Errors
    /// When the folder of locks cannot be read.
    pub fn holders(&self) -> Result<Vec<(Digest, Option<HolderInfo>)>> {
        let mut holders = Vec::new();
        for name in names_if_folder(&self.layout().folder("locks"))? {
            let Ok(key) = name.parse::<Digest>() else { continue };
            if let Held::By(holder) = self.held(key)? {
                holders.push((key, holder));
            }
        }
        Ok(holders)
    }

    /// The folders in which the holder of a key's lock works; staging is emptied. Scratch is kept from an earlier try only
    /// where that was made from the same `ground` ([`Store::ground`]): what it holds may come of bytes that were damaged when
    /// they were read, though the key promises others.
    ///
    /// # Errors
    /// When they cannot be made or emptied.
    pub fn work(&self, lock: &KeyLock, ground: Digest) -> Result<Work> {
        let folder = self.layout().work(lock.key);
        if folder.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            // Not of our making: whose it is can be seen later.
            write::move_aside(&folder, &self.layout().folder("damaged"))?;
        }
        let mut work = Work { scratch: folder.join("scratch"), staging: folder.join("staging"), emptied: false };
        remove_folder(&work.staging)?;
        let (text, known) = (format!("{ground}\n"), folder.join(GROUND));
        if !text::read(&known).is_ok_and(|known| known == text) {
            work.emptied = std::fs::read_dir(&work.scratch).is_ok_and(|mut entries| entries.next().is_some());
            remove_folder(&work.scratch)?;
            failpoint::pass("work-before-ground");
            write::make_folder(&folder)?;
            if known.is_dir() {
                remove_folder(&known)?;
            }
            write::replace(&self.layout().folder("tmp"), &known, text.as_bytes(), 0o644)?;
        }
        if work.scratch.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
            remove_folder(&work.scratch)?;
        }
        write::make_folder(&work.scratch)?;
        write::make_folder(&work.staging)?;
        failpoint::pass("work-before-stage");
        Ok(work)
    }

    /// The scratch that an earlier try of a key left, where the next one with these inputs and sources would keep it
    /// ([`Store::work`]). Writes nothing; `None` also while the lock of the key is held.
    ///
    /// # Errors
    /// When a tree that is read, or the lock, cannot be read.
    pub fn scratch(
        &self,
        key: Digest,
        inputs: &BTreeMap<String, Digest>,
        sources: &SourceSnapshot,
    ) -> Result<Option<PathBuf>> {
        let folder = self.layout().work(key);
        let scratch = folder.join("scratch");
        let Ok(known) = text::read(&folder.join(GROUND)) else { return Ok(None) };
        if !scratch.is_dir() || self.held(key)? != Held::Free {
            return Ok(None);
        }
        let is_kept = known == format!("{}\n", self.ground(inputs, sources)?);
        Ok(is_kept.then_some(scratch))
    }

    /// Removes a key's work folder, once its output is on record.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear_work(&self, lock: &KeyLock) -> Result<()> {
        failpoint::pass("clear-before-remove");
        remove_folder(&self.layout().work(lock.key))
    }
}

fn read_holder(file: &mut File) -> Option<HolderInfo> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Removes a folder with all that is in it, or what lies in its place, if it is there.
pub(super) fn remove_folder(path: &std::path::Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if !found.is_dir() => std::fs::remove_file(path),
        _ => std::fs::remove_dir_all(path),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}
