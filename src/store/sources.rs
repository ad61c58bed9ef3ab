//! Digests of files outside the store.
//!
//! A file is hashed before a stage reads it, and looked at again after: one that changed meanwhile keeps the stage's
//! output out of the store. Digests of unchanged files come from `stat/sources`, so that a run in which nothing changed
//! reads no data. A file whose content or metadata changed within the last two seconds before it was hashed is not
//! remembered: another write in the same tick of the file system's clock would leave its signature as it is. After a stage
//! has read a file its signature counts too: a file that was written to, and then given its old content again, may have been
//! read in between.

use std::collections::HashMap;
use std::fs;
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
        let all = sources.index.all();
        sources.known.reserve(all.iter().map(Vec::len).sum());
        sources.known.extend(all.into_iter().flatten().map(|(digest, signature)| (signature, digest)));
        sources
    }

    fn refresh(&mut self) {
        self.known.extend(self.index.news().into_iter().map(|(digest, signature)| (signature, digest)));
    }

    fn digest(&mut self, signature: Signature) -> Option<Digest> {
        if let Some(digest) = self.known.get(&signature) {
            return Some(*digest);
        }
        self.refresh();
        self.known.get(&signature).copied()
    }

    pub(super) fn compact(&mut self, temporary: &Path) {
        self.index.compact(temporary, self.known.iter().map(|(signature, digest)| (*digest, *signature)));
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

impl Seen {
    /// A file whose digest is remembered: an equal signature proves that nothing changed.
    fn known(path: PathBuf, digest: Digest, signature: Signature) -> Self {
        Self { file: SourceFile { path, digest, size: signature.size }, signature, settled: true }
    }
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
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> + Clone {
        self.0.iter().map(|seen| &seen.file)
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
        files: Vec<(PathBuf, Signature)>,
        mut hashed: impl FnMut(u64) -> bool,
    ) -> Result<SourceSnapshot> {
        let see = |(path, signature)| match self.known(signature) {
            Some(digest) => Ok(Seen::known(path, digest, signature)),
            None => self.see(&path, &mut hashed),
        };
        Ok(SourceSnapshot::of(files.into_iter().map(see).collect::<Result<Vec<_>>>()?))
    }

    /// The same where every digest is remembered; `None`, and nothing read, where one is not.
    pub fn known_sources(&self, files: Vec<(PathBuf, Signature)>) -> Option<SourceSnapshot> {
        let mut sources = lock_mutex(&self.inner.sources);
        let known = |(path, signature)| Some(Seen::known(path, sources.digest(signature)?, signature));
        let known = files.into_iter().map(known).collect::<Option<Vec<_>>>()?;
        drop(sources);
        Some(SourceSnapshot::of(known))
    }

    /// The digest of the file that has this signature, where it is remembered.
    fn known(&self, signature: Signature) -> Option<Digest> {
        lock_mutex(&self.inner.sources).digest(signature)
    }

    fn see(&self, path: &Path, hashed: &mut impl FnMut(u64) -> bool) -> Result<Seen> {
        for _ in 0..TRIES {
            let signature = stat(path)?;
            if let Some(digest) = self.known(signature) {
                return Ok(Seen::known(path.to_owned(), digest, signature));
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
                if self.is_writable() {
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

/// Whether an equal signature proves later that nothing was written since `started`.
fn settled(signature: Signature, started: SystemTime) -> bool {
    let nanoseconds = |time| i128::from(milliseconds(time)) * 1_000_000;
    let since = started.checked_sub(SETTLE).map_or(0, nanoseconds);
    // A time to come was set by a program, and whoever writes resets it.
    let written = if i128::from(signature.modified) > nanoseconds(started) { 0 } else { signature.modified };
    let touched = written.max(signature.changed);
    // The last time that there is stands for all later ones: equal ones prove nothing.
    touched < i64::MAX && i128::from(touched) < since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_64_bits_proves_nothing() {
        let settled =
            |changed| settled(Signature { changed, ..Signature::default() }, SystemTime::UNIX_EPOCH + SETTLE * 2);
        assert!(settled(1) && !settled(i64::MAX));
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(20_000_000_000);
        assert!(!super::settled(Signature { changed: i64::MAX, ..Signature::default() }, late));
    }

    #[test]
    fn a_file_from_the_future_settles_when_it_was_changed_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let second = |seconds: i64| seconds * 1_000_000_000;
        let settled = |modified, changed| {
            let (modified, changed) = (second(modified), second(changed));
            super::settled(Signature { modified, changed, ..Signature::default() }, now)
        };
        assert!(settled(999_000, 999_000) && settled(2_000_000, 999_000));
        assert!(!settled(999_999, 999_000) && !settled(999_000, 999_999));
        // A clock that ran ahead wrote it, perhaps just now.
        assert!(!settled(2_000_000, 2_000_000));
    }

    #[test]
    fn what_others_remember_meanwhile_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = [(); 2].map(|()| Store::open(&folder.path().join("cache")).unwrap());
        let signature = |inode| Signature { inode, ..Signature::default() };
        let news: Vec<_> =
            (0..3000).map(|inode| (Digest::of(&inode.to_string().into_bytes()), signature(inode))).collect();
        lock_mutex(&theirs.inner.sources).index.append(&news);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let files: Vec<_> = (0..3000).map(|inode| vec![(PathBuf::from("file"), signature(inode))]).collect();
            let known = crate::parallel::map(&files, |files| ours.known_sources(files.clone()).is_some());
            sender.send(known.iter().filter(|known| **known).count())
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(3000));
    }
}
