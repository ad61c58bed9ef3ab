//! Digests of files outside the store.
//!
//! A file is hashed before a stage reads it, and looked at again after: one that changed meanwhile keeps the stage's
//! output out of the store. Digests of unchanged files come from `stat/sources`, so that a run in which nothing changed
//! reads no data. A file whose content or metadata changed within the last two seconds before it was hashed is not
//! remembered: another write in the same tick of the file system's clock would leave its signature as it is. After a stage
//! has read a file its signature counts too: a file that was written to, and then given its old content again, may have been
//! read in between.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use contract::{Digest, SourceFile};

use super::error::{Result, StoreError};
use super::index::Index;
use super::record::milliseconds;
use super::signature::Signature;
use super::{Store, lock_mutex};
use crate::clock;

/// Longer than the tick of any file system's clock (FAT: two seconds).
const SETTLE: Duration = Duration::from_secs(2);
/// How often a file that changes while it is hashed is tried.
const TRIES: usize = 3;

/// Remembered digests of external files.
#[derive(Debug)]
pub(super) struct Sources {
    index: Index,
    known: HashMap<Signature, Digest>,
}

impl Sources {
    pub(super) fn load(index: Index) -> Self {
        let mut sources = Self { index, known: HashMap::new() };
        sources.refresh();
        sources
    }

    fn refresh(&mut self) {
        self.known.extend(self.index.news().into_iter().map(|(digest, signature)| (signature, digest)));
    }

    fn digest(&mut self, signature: Signature) -> Option<Digest> {
        if !self.known.contains_key(&signature) {
            self.refresh();
        }
        self.known.get(&signature).copied()
    }

    pub(super) fn compact(&mut self, temporary: &Path) {
        let entries: Vec<_> = self.known.iter().map(|(signature, digest)| (*digest, *signature)).collect();
        self.index.compact(temporary, &entries);
    }
}

/// External files as they were when they were hashed.
#[derive(Debug, Clone, Default)]
pub struct SourceSnapshot(Vec<Seen>);

#[derive(Debug, Clone)]
struct Seen {
    file: SourceFile,
    signature: Signature,
    /// Whether an equal signature proves that nothing changed.
    settled: bool,
}

impl SourceSnapshot {
    fn of(mut seen: Vec<Seen>) -> Self {
        seen.sort_by(|a, b| (a.file.digest, &a.file.path).cmp(&(b.file.digest, &b.file.path)));
        Self(seen)
    }

    /// Files as they were once said to be, of which nothing is known now.
    pub fn remembered(files: Vec<SourceFile>) -> Self {
        let seen = |file: SourceFile| Seen { file, signature: Signature::default(), settled: false };
        Self::of(files.into_iter().map(seen).collect())
    }

    /// The files, sorted by digest, then by path: the order in which a stage is handed them.
    pub fn files(&self) -> Vec<SourceFile> {
        self.0.iter().map(|seen| seen.file.clone()).collect()
    }

    /// Their digests, sorted, duplicates kept: what enters the key.
    pub fn digests(&self) -> Vec<Digest> {
        self.0.iter().map(|seen| seen.file.digest).collect()
    }

    /// Bytes of all.
    pub fn size(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, seen| sum.saturating_add(seen.file.size))
    }

    /// What the file system said of each.
    pub(super) fn signatures(&self) -> impl Iterator<Item = (Digest, Signature)> {
        self.0.iter().map(|seen| (seen.file.digest, seen.signature))
    }

    /// The files that were touched since they were hashed, as far as `stat` tells; nothing is read.
    pub fn touched(&self) -> impl Iterator<Item = &Path> {
        let same = |seen: &&Seen| fs::metadata(&seen.file.path).is_ok_and(|now| Signature::of(&now) == seen.signature);
        self.0.iter().filter(move |seen| !same(seen)).map(|seen| seen.file.path.as_path())
    }

    /// The files that were touched since they were hashed, or whose content is no longer what was hashed.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub fn changed(&self) -> Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        for Seen { file, signature, settled } in &self.0 {
            let path = &file.path;
            let same = match fs::metadata(path) {
                Ok(metadata) if Signature::of(&metadata) != *signature => false,
                Ok(_) if *settled => true,
                // Written to within the same tick of the clock, perhaps.
                Ok(_) => {
                    let digest = Digest::of_file(path).map_err(StoreError::source(path))?;
                    digest == file.digest
                }
                Err(_) => false,
            };
            if !same {
                changed.push(path.clone());
            }
        }
        Ok(changed)
    }
}

impl Store {
    /// The digests of external files, each with what `stat` just said of it. `hashed` is told the bytes of each piece
    /// that had to be read, and stops the work by returning false.
    ///
    /// # Errors
    /// When one cannot be read, is not a regular file, or keeps changing; [`StoreError::Interrupted`] when `hashed` returned
    /// false.
    pub fn sources(
        &self,
        files: &[(PathBuf, Metadata)],
        mut hashed: impl FnMut(u64) -> bool,
    ) -> Result<SourceSnapshot> {
        let see = |(path, metadata): &(PathBuf, Metadata)| match self.known(path, Signature::of(metadata)) {
            Some(seen) => Ok(seen),
            None => self.see(path, &mut hashed),
        };
        Ok(SourceSnapshot::of(files.iter().map(see).collect::<Result<Vec<_>>>()?))
    }

    /// The same where every digest is remembered; `None`, and nothing read, where one is not.
    pub fn known_sources(&self, files: &[(PathBuf, Metadata)]) -> Option<SourceSnapshot> {
        let known = files.iter().map(|(path, metadata)| self.known(path, Signature::of(metadata)));
        Some(SourceSnapshot::of(known.collect::<Option<Vec<_>>>()?))
    }

    /// A file whose digest is remembered.
    fn known(&self, path: &Path, signature: Signature) -> Option<Seen> {
        let digest = lock_mutex(&self.inner.sources).digest(signature)?;
        let file = SourceFile { path: path.to_owned(), digest, size: signature.size };
        Some(Seen { file, signature, settled: true })
    }

    fn see(&self, path: &Path, hashed: &mut impl FnMut(u64) -> bool) -> Result<Seen> {
        for _ in 0..TRIES {
            let signature = stat(path)?;
            if let Some(seen) = self.known(path, signature) {
                return Ok(seen);
            }
            let started = clock::now();
            let digest = Digest::of_file_told(path, &mut *hashed)
                .map_err(StoreError::source(path))?
                .ok_or(StoreError::Interrupted)?;
            if stat(path)? != signature {
                continue;
            }
            let settled = settled(signature, started);
            if settled {
                let mut sources = lock_mutex(&self.inner.sources);
                sources.known.insert(signature, digest);
                if self.writes() {
                    sources.index.append(&[(digest, signature)]);
                }
            }
            let file = SourceFile { path: path.to_owned(), digest, size: signature.size };
            return Ok(Seen { file, signature, settled });
        }
        Err(StoreError::Changing(path.to_owned()))
    }
}

fn stat(path: &Path) -> Result<Signature> {
    let metadata = fs::metadata(path).map_err(StoreError::source(path))?;
    if metadata.is_file() { Ok(Signature::of(&metadata)) } else { Err(StoreError::NotAFile(path.to_owned())) }
}

fn settled(signature: Signature, started: SystemTime) -> bool {
    let since = started.checked_sub(SETTLE).map_or(0, milliseconds);
    signature.modified.max(signature.changed) < i128::from(since) * 1_000_000
}
