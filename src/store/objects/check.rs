//! Checks of blobs: by their seal, and by their content if the seal is broken.

use std::fs;
use std::io;

use contract::Digest;

use super::seals::freeze;
use super::{HASHING, Objects};
use crate::store::root::lock_mutex;
use crate::store::stat::Signature;
use crate::store::{Fault, Object, Result, StoreError};

impl Objects {
    /// Checks a blob by its seal, and by its content if the seal is broken. Returns [`StoreError::Damaged`] if it is damaged; it was then
    /// moved aside, unless the store is read-only.
    pub(in crate::store) fn check_blob(&self, digest: Digest, size: u64) -> Result<()> {
        if self.is_sealed(digest, size) {
            return Ok(());
        }
        // Of stages that share a blob, one hashes it and the others wait.
        let _hashing = lock_mutex(&self.hashing[usize::from(digest.as_bytes()[0]) % HASHING]);
        if self.is_sealed(digest, size) {
            return Ok(());
        }
        self.rehash_blob(digest, size, |_| !self.root.stop.is_set())
    }

    /// Checks a blob by its content, and seals it. `piece` receives the number of bytes of each piece; returning false stops the work.
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
                // Checked first: sealing a link would change the file that it points to.
                self.stat_blob(digest, size)?;
                freeze(&path).map_err(|error| gone("seal", error))?;
            }
            let before = self.stat_blob(digest, size)?;
            let found = Digest::of_file_in_pieces(&path, &mut piece).map_err(|error| gone("read", error))?;
            let found = found.ok_or(StoreError::Interrupted)?;
            // Otherwise, while it was read, it was written to, or replaced by another process that adopted the same content.
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
