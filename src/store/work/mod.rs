//! Work: the lock of a key, and the directories in which its holder builds.
//!
//! `work/<key>/scratch/` survives a crash, and the next build of the key continues from it, but only if the files that it was computed from
//! are untouched: its content may have been computed from bytes that were damaged when they were read. Their fingerprint is in
//! `work/<key>/input_fingerprint`. `work/<key>/staging/` is emptied before each build.

mod lock;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use contract::Digest;

use super::files::size_of;
use super::stat::Signature;
use super::{Objects, Result, Root, SourceSnapshot, failpoint, files};
pub use lock::{KeyLock, LockHolder, LockState};

/// The locks and working directories of a store.
#[derive(Debug, Clone)]
pub struct Work {
    root: Root,
    objects: Objects,
}

/// The directories of one build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkDirs {
    /// Survives a crash; the next build of the key finds its content.
    pub scratch: PathBuf,
    /// An empty directory for the output.
    pub staging: PathBuf,
    /// Whether scratch of an earlier attempt existed and was emptied.
    pub emptied: bool,
}

/// The name of a file in a key's work directory: the fingerprint of the inputs of its scratch.
const FINGERPRINT: &str = "input_fingerprint";

impl Work {
    pub(super) fn new(root: Root, objects: Objects) -> Self {
        Self { root, objects }
    }

    /// Takes the lock of a key; `None` if another process or thread holds it.
    pub fn lock(&self, key: Digest, holder: &LockHolder) -> Result<Option<KeyLock>> {
        self.root.check_writable()?;
        KeyLock::take(&self.root.layout.lock(key), key, holder)
    }

    /// Returns whether the lock of a key is held, without writing anything.
    pub fn lock_state(&self, key: Digest) -> Result<LockState> {
        LockState::of(&self.root.layout.lock(key))
    }

    /// Returns every key that is being built, with its builder, without writing anything.
    pub fn holders(&self) -> Result<Vec<(Digest, Option<LockHolder>)>> {
        let mut holders = Vec::new();
        for key in self.locked_keys()? {
            if let LockState::Held(holder) = self.lock_state(key)? {
                holders.push((key, holder));
            }
        }
        Ok(holders)
    }

    /// Returns the keys with a lock file.
    pub(super) fn locked_keys(&self) -> Result<Vec<Digest>> {
        let names = files::names(&self.root.layout.dir("locks"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes the lock file of a key, unless the lock is held.
    pub(super) fn remove_lock(&self, key: Digest) -> Result<()> {
        match self.lock(key, &LockHolder::this("gc"))? {
            Some(_lock) => files::remove(&self.root.layout.lock(key)),
            None => Ok(()),
        }
    }

    /// Prepares the directories of a build. Scratch of an earlier attempt is kept only if it has the same fingerprint
    /// ([`Work::input_fingerprint`]).
    pub fn prepare(&self, lock: &KeyLock, fingerprint: Digest) -> Result<WorkDirs> {
        let dir = self.root.layout.work(lock.key());
        let mut dirs = WorkDirs { scratch: dir.join("scratch"), staging: dir.join("staging"), emptied: false };
        files::remove(&dirs.staging)?;
        let (text, path) = (format!("{fingerprint}\n"), dir.join(FINGERPRINT));
        if !files::read(&path).is_ok_and(|found| found == text) {
            dirs.emptied = fs::read_dir(&dirs.scratch).is_ok_and(|mut entries| entries.next().is_some());
            files::remove(&dirs.scratch)?;
            failpoint::pass("work-before-fingerprint");
            files::make_dir(&dir)?;
            files::remove(&path)?;
            self.root.replace(&path, text.as_bytes())?;
        }
        if !dirs.scratch.is_dir() {
            files::remove(&dirs.scratch)?;
        }
        files::make_dir(&dirs.scratch)?;
        files::make_dir(&dirs.staging)?;
        failpoint::pass("work-before-stage");
        Ok(dirs)
    }

    /// Returns the scratch of an earlier attempt that the next build with these inputs and sources would keep, without writing anything;
    /// `None` also while the lock of the key is held.
    pub fn scratch(
        &self,
        key: Digest,
        inputs: &BTreeMap<String, Digest>,
        sources: &SourceSnapshot,
    ) -> Result<Option<PathBuf>> {
        let dir = self.root.layout.work(key);
        let scratch = dir.join("scratch");
        let Ok(found) = files::read(&dir.join(FINGERPRINT)) else { return Ok(None) };
        if !scratch.is_dir() || self.lock_state(key)? != LockState::Free {
            return Ok(None);
        }
        let is_kept = found == format!("{}\n", self.input_fingerprint(inputs, sources)?);
        Ok(is_kept.then_some(scratch))
    }

    /// Removes a key's work directory, once its output is recorded.
    pub fn clear(&self, lock: &KeyLock) -> Result<()> {
        failpoint::pass("clear-before-remove");
        files::remove(&self.root.layout.work(lock.key()))
    }

    /// Returns the bytes that interrupted builds of this key, or of all keys, left on the disk.
    pub fn scratch_bytes(&self, key: Option<Digest>) -> u64 {
        size_of(&key.map_or_else(|| self.root.layout.dir("work"), |key| self.root.layout.work(key)))
    }

    /// Returns a digest of the signatures of all files that a stage reads: those of these trees, by port, and these files outside the
    /// store. A write to a file or its replacement changes the digest, even if the content is the same. The device number is left out: it
    /// may change although the file does not.
    pub fn input_fingerprint(&self, trees: &BTreeMap<String, Digest>, sources: &SourceSnapshot) -> Result<Digest> {
        let mut text = String::new();
        let mut add = |digest: Digest, signature: Signature| {
            let Signature { inode, size, modified, changed, mode, .. } = signature;
            text += &format!("{digest} {inode} {size} {modified} {changed} {mode}\n");
        };
        for digest in trees.values() {
            for entry in self.objects.tree(*digest)?.entries() {
                add(entry.digest, self.objects.signature(entry.digest)?);
            }
        }
        sources.signatures().for_each(|(digest, signature)| add(digest, signature));
        Ok(Digest::of_record("pipeline 2026 input fingerprint v1", text.as_bytes()))
    }
}
