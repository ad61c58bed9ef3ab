//! Seals: the signature of each blob when its content was last known to be right.
//!
//! A blob is sealed when it is adopted and whenever it was hashed and found right: it becomes read-only, its time of
//! modification becomes [`SEALED_AT`], and its signature is remembered in `stat/blobs`. A blob with its remembered signature
//! is trusted without being read. Any write sets another time of modification, whatever the resolution of the file system's
//! clock, because no clock shows [`SEALED_AT`] any more; any replacement changes the inode. So a modified blob is found for
//! the price of one `stat`, and a store that was copied or restored is hashed once.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use contract::Digest;

use super::{HASHING, Objects};
use crate::store::files::READ_ONLY;
use crate::store::stat::{Index, Signature};
use crate::store::{Fault, Layout, Object, Result, StoreError, lock_mutex};

/// One second after 1970: no file is written then.
const SEALED_AT: Duration = Duration::from_secs(1);

/// The remembered seals.
#[derive(Debug)]
pub(super) struct Seals {
    index: Index,
    known: HashMap<Digest, Signature>,
}

impl Seals {
    pub(super) fn load(layout: &Layout) -> Self {
        let [path, _] = layout.indexes();
        let mut index = Index::new(path);
        let known = index.all().into_iter().collect();
        Self { index, known }
    }

    fn holds(&mut self, digest: Digest, signature: Signature) -> bool {
        if self.known.get(&digest) != Some(&signature) {
            self.known.extend(self.index.news());
        }
        self.known.get(&digest) == Some(&signature)
    }
}

/// Makes a file read-only and its time of modification [`SEALED_AT`].
pub(super) fn freeze(path: &Path) -> io::Result<()> {
    // A blob of another owner may be right and cannot be changed: its signature is used as it is.
    let owner = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    };
    // A change to the same value still gives the file another signature, and invalidates the work of a process that hashes it
    // at the same time.
    let metadata = fs::symlink_metadata(path)?;
    if metadata.permissions().mode() & 0o7777 != READ_ONLY {
        owner(fs::set_permissions(path, Permissions::from_mode(READ_ONLY)))?;
    }
    let sealed_at = SystemTime::UNIX_EPOCH + SEALED_AT;
    if metadata.modified()? != sealed_at {
        owner(File::open(path)?.set_times(FileTimes::new().set_modified(sealed_at)))?;
    }
    Ok(())
}

impl Objects {
    /// Remembers the present signatures of blobs that are known to be right.
    pub(super) fn seal(&self, blobs: &[Digest]) -> Result<()> {
        let mut entries = Vec::with_capacity(blobs.len());
        for digest in blobs {
            entries.push((*digest, self.signature(*digest)?));
        }
        let mut seals = lock_mutex(&self.seals);
        if self.root.writes && !entries.is_empty() {
            seals.index.append(&entries);
        }
        seals.known.extend(entries);
        Ok(())
    }

    /// The present signature of a blob.
    pub(in crate::store) fn signature(&self, digest: Digest) -> Result<Signature> {
        let path = self.root.layout.blob(digest);
        let metadata = fs::symlink_metadata(&path).map_err(StoreError::io("read", &path))?;
        Ok(Signature::of(&metadata))
    }

    /// Drops the lines of the index that newer ones replace.
    pub(in crate::store) fn compact(&self) {
        let Seals { index, known } = &mut *lock_mutex(&self.seals);
        index.compact(&self.root.layout.tmp(), known.iter().map(|(digest, signature)| (*digest, *signature)));
    }

    /// Checks a blob by its seal, and by its content if the seal does not hold. [`StoreError::Damaged`]: it was moved aside,
    /// unless the store is read-only.
    pub(in crate::store) fn check_blob(&self, digest: Digest, size: u64) -> Result<()> {
        if self.seal_holds(digest, size)? {
            return Ok(());
        }
        // Stages that share a blob wait for one of them to hash it.
        let _hashing = lock_mutex(&self.hashing[usize::from(digest.as_bytes()[0]) % HASHING]);
        if self.seal_holds(digest, size)? {
            return Ok(());
        }
        self.rehash_blob(digest, size, |_| !self.root.stop.is_set())
    }

    fn seal_holds(&self, digest: Digest, size: u64) -> Result<bool> {
        let signature = self.stat_blob(digest, size)?;
        Ok(lock_mutex(&self.seals).holds(digest, signature))
    }

    /// Whether a blob has its seal; nothing is read, moved or reported.
    pub(in crate::store) fn is_sealed(&self, digest: Digest, size: u64) -> bool {
        let metadata = fs::symlink_metadata(self.root.layout.blob(digest));
        metadata.is_ok_and(|found| {
            found.is_file() && found.len() == size && lock_mutex(&self.seals).holds(digest, Signature::of(&found))
        })
    }

    /// Checks a blob by its content, and seals it. `piece` receives the bytes of each piece, and stops the work by returning
    /// false.
    pub(in crate::store) fn rehash_blob(
        &self,
        digest: Digest,
        size: u64,
        mut piece: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        let path = self.root.layout.blob(digest);
        // Another process may find the same damage and move it aside at any time.
        let gone = |attempt: &'static str, error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged_blob(digest, Fault::Missing),
            _ => StoreError::io(attempt, &path)(error),
        };
        loop {
            if self.root.writes {
                // Checked first: sealing a link would change the file that it leads to.
                self.stat_blob(digest, size)?;
                freeze(&path).map_err(|error| gone("seal", error))?;
            }
            let before = self.stat_blob(digest, size)?;
            let found = Digest::of_file_told(&path, &mut piece).map_err(|error| gone("read", error))?;
            let found = found.ok_or(StoreError::Interrupted)?;
            // Otherwise it was written, or replaced by another process that adopted the same content, while it was read.
            if self.stat_blob(digest, size)? == before {
                return match found == digest {
                    true => self.seal(&[digest]),
                    false => Err(self.damaged_blob(digest, Fault::Content { found })),
                };
            }
        }
    }

    fn stat_blob(&self, digest: Digest, size: u64) -> Result<Signature> {
        let path = self.root.layout.blob(digest);
        let fault = match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => Fault::Format("not a file".to_owned()),
            Ok(metadata) if metadata.len() != size => Fault::Size { expected: size, found: metadata.len() },
            Ok(metadata) => return Ok(Signature::of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Fault::Missing,
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        Err(self.damaged_blob(digest, fault))
    }

    fn damaged_blob(&self, digest: Digest, fault: Fault) -> StoreError {
        self.root.damaged(Object::Blob(digest), fault, &self.root.layout.blob(digest))
    }
}
