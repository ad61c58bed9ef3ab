//! Digests of files outside the store.
//!
//! A file is hashed before a stage reads it and checked again afterwards: if it changed meanwhile, the stage's output is not stored.
//! Digests of unchanged files come from `stat/sources`. The digest of a file that changed within the two seconds before it was hashed is
//! not stored: another write in the same tick of the file system's clock would not change its signature. The check after a stage also
//! compares signatures: a file may have been written to, read by the stage, and then restored to its old content.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use contract::{Digest, SourceFile};

use super::{Index, Signature};
use crate::clock;
use crate::store::root::lock_mutex;
use crate::store::{Result, Root, StoreError, milliseconds};

/// Longer than the clock tick of any file system (FAT: two seconds).
const SETTLE: Duration = Duration::from_secs(2);
/// The number of attempts to hash a file that changes while it is hashed.
const TRIES: usize = 3;

/// The stored digests of external files.
#[derive(Debug, Clone)]
pub struct Sources {
    root: Root,
    index: Arc<Mutex<Index>>,
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
    /// Returns a file whose digest is stored.
    fn known(path: PathBuf, digest: Digest, signature: Signature) -> Self {
        Self { file: SourceFile { path, digest, size: signature.size }, signature, settled: true }
    }
}

impl SourceSnapshot {
    fn of(mut seen: Vec<Seen>) -> Self {
        seen.sort_by(|a, b| (a.file.digest, &a.file.path).cmp(&(b.file.digest, &b.file.path)));
        Self(seen)
    }

    /// Returns files as recorded earlier; their current state is unknown.
    pub fn remembered(files: Vec<SourceFile>) -> Self {
        let seen = |file: SourceFile| Seen { file, signature: Signature::default(), settled: false };
        Self::of(files.into_iter().map(seen).collect())
    }

    /// Returns the files, sorted by digest, then by path: the order in which a stage reads them.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> + Clone {
        self.0.iter().map(|seen| &seen.file)
    }

    /// Returns their digests, sorted, with duplicates, as they enter the key.
    pub fn digests(&self) -> Vec<Digest> {
        self.0.iter().map(|seen| seen.file.digest).collect()
    }

    /// Returns their total size in bytes.
    pub fn size(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, seen| sum.saturating_add(seen.file.size))
    }

    /// Returns the digest and signature of each.
    pub(in crate::store) fn signatures(&self) -> impl Iterator<Item = (Digest, Signature)> {
        self.0.iter().map(|seen| (seen.file.digest, seen.signature))
    }

    /// Returns the files whose signature changed since they were hashed, without reading them.
    pub fn touched(&self) -> impl Iterator<Item = &Path> {
        let same = |seen: &&Seen| fs::metadata(&seen.file.path).is_ok_and(|now| Signature::of(&now) == seen.signature);
        self.0.iter().filter(move |seen| !same(seen)).map(|seen| seen.file.path.as_path())
    }

    /// Returns the files whose signature or content changed since they were hashed.
    pub fn changed(&self) -> Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        for Seen { file: SourceFile { path, digest, .. }, signature, settled } in &self.0 {
            let same = match fs::metadata(path) {
                Ok(metadata) if Signature::of(&metadata) == *signature => {
                    // Otherwise it may have been written to in the same tick of the clock.
                    *settled || Digest::of_file(path).map_err(StoreError::source(path))? == *digest
                }
                _ => false,
            };
            changed.extend((!same).then(|| path.clone()));
        }
        Ok(changed)
    }
}

impl Sources {
    pub(in crate::store) fn new(root: Root) -> Self {
        let [_, path] = root.layout.indexes();
        Self { root, index: Arc::new(Mutex::new(Index::load(path))) }
    }

    pub(in crate::store) fn compact(&self) {
        lock_mutex(&self.index).compact(&self.root.layout.tmp());
    }

    /// Hashes external files, each with its current signature. `hashed` receives the number of bytes of each piece that is read; returning
    /// false stops the work.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, is not a regular file, or keeps changing; [`StoreError::Interrupted`].
    pub fn digest(
        &self,
        files: Vec<(PathBuf, Signature)>,
        mut hashed: impl FnMut(u64) -> bool,
    ) -> Result<SourceSnapshot> {
        let see = |(path, signature)| match self.remembered(signature) {
            Some(digest) => Ok(Seen::known(path, digest, signature)),
            None => self.hash(&path, &mut hashed),
        };
        Ok(SourceSnapshot::of(files.into_iter().map(see).collect::<Result<Vec<_>>>()?))
    }

    /// Does the same as [`Sources::digest`] if all digests are stored; returns `None` without reading anything if one is not.
    pub fn known(&self, files: Vec<(PathBuf, Signature)>) -> Option<SourceSnapshot> {
        let mut index = lock_mutex(&self.index);
        let see = |(path, signature)| Some(Seen::known(path, index.digest(signature)?, signature));
        let seen = files.into_iter().map(see).collect::<Option<Vec<_>>>()?;
        drop(index);
        Some(SourceSnapshot::of(seen))
    }

    fn remembered(&self, signature: Signature) -> Option<Digest> {
        lock_mutex(&self.index).digest(signature)
    }

    fn hash(&self, path: &Path, hashed: &mut impl FnMut(u64) -> bool) -> Result<Seen> {
        for _ in 0..TRIES {
            let signature = stat(path)?;
            if let Some(digest) = self.remembered(signature) {
                return Ok(Seen::known(path.to_owned(), digest, signature));
            }
            let started = clock::now();
            let digest = Digest::of_file_in_pieces(path, &mut *hashed)
                .map_err(StoreError::source(path))?
                .ok_or(StoreError::Interrupted)?;
            if stat(path)? != signature {
                continue;
            }
            let settled = settled(signature, started);
            if settled {
                lock_mutex(&self.index).remember(&[(signature, digest)], self.root.writes);
            }
            return Ok(Seen { settled, ..Seen::known(path.to_owned(), digest, signature) });
        }
        Err(StoreError::Changing(path.to_owned()))
    }
}

fn stat(path: &Path) -> Result<Signature> {
    let metadata = fs::metadata(path).map_err(StoreError::source(path))?;
    let not_a_file = || StoreError::source(path)(io::Error::other("it is not a regular file"));
    metadata.is_file().then(|| Signature::of(&metadata)).ok_or_else(not_a_file)
}

/// Returns whether an equal signature later proves that nothing was written since `started`.
fn settled(signature: Signature, started: SystemTime) -> bool {
    let nanoseconds = |time| i128::from(milliseconds(time)) * 1_000_000;
    let since = started.checked_sub(SETTLE).map_or(0, nanoseconds);
    // A program set a time in the future, which every write resets.
    let written = if i128::from(signature.modified) > nanoseconds(started) { 0 } else { signature.modified };
    let touched = written.max(signature.changed);
    // The maximum that 64 bits can hold stands for all later times: equal values prove nothing.
    touched < i64::MAX && i128::from(touched) < since
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

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
    fn entries_of_other_processes_are_read_by_many_threads_without_a_deadlock() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = [(); 2].map(|()| Store::open(&folder.path().join("cache")).unwrap());
        let signature = |inode| Signature { inode, ..Signature::default() };
        let news: Vec<_> =
            (0..3000).map(|inode| (signature(inode), Digest::of(&inode.to_string().into_bytes()))).collect();
        lock_mutex(&theirs.sources.index).remember(&news, true);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let files: Vec<_> = (0..3000).map(|inode| vec![(PathBuf::from("file"), signature(inode))]).collect();
            let known = crate::parallel::map(&files, |files| ours.sources.known(files.clone()).is_some());
            sender.send(known.iter().filter(|known| **known).count())
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(3000));
    }
}
