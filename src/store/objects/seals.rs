//! Seals: the signature of each blob at the time when its content was last known to be correct.
//!
//! A blob is sealed when it is adopted, and whenever it was hashed and found correct: it becomes read-only, its modification time is set to
//! [`SEALED_AT`], and its signature is stored in `stat/blobs`. Any write changes the modification time, because no clock shows
//! [`SEALED_AT`]; any replacement changes the inode.

use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use contract::Digest;

use super::Objects;
use crate::store::files::READ_ONLY;
use crate::store::root::lock_mutex;
use crate::store::stat::Signature;
use crate::store::{Result, StoreError};

/// One second after 1970: no file is written at that time.
const SEALED_AT: Duration = Duration::from_secs(1);

/// Makes a file read-only and sets its modification time to [`SEALED_AT`].
pub(super) fn freeze(path: &Path) -> io::Result<()> {
    // A blob of another owner cannot be changed, but may be correct: its signature is used as it is.
    let owner = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    };
    // Setting the same value still gives the file another signature, which invalidates the work of a process that hashes it at the same
    // time.
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
    /// Stores the current signatures of blobs that are known to be correct.
    pub(super) fn seal(&self, blobs: &[Digest]) -> Result<()> {
        let entries = blobs.iter().map(|digest| Ok((self.signature(*digest)?, *digest)));
        lock_mutex(&self.seals).remember(&entries.collect::<Result<Vec<_>>>()?, self.root.writes);
        Ok(())
    }

    /// Returns whether the seal of a blob is intact; nothing is read, moved or reported.
    pub(in crate::store) fn is_sealed(&self, digest: Digest, size: u64) -> bool {
        let metadata = fs::symlink_metadata(self.root.layout.blob(digest));
        metadata.is_ok_and(|found| {
            let remembered = || lock_mutex(&self.seals).digest(Signature::of(&found));
            found.is_file() && found.len() == size && remembered() == Some(digest)
        })
    }

    /// Returns the current signature of a blob.
    pub(in crate::store) fn signature(&self, digest: Digest) -> Result<Signature> {
        let path = self.root.layout.blob(digest);
        let metadata = fs::symlink_metadata(&path).map_err(StoreError::io("read", &path))?;
        Ok(Signature::of(&metadata))
    }

    /// Drops the lines of the index that newer lines replace.
    pub(in crate::store) fn compact(&self) {
        lock_mutex(&self.seals).compact(&self.root.layout.tmp());
    }
}
