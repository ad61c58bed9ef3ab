//! Seals: what the file system said of each blob when its content was last known to be right.
//!
//! A blob is sealed when it is adopted and whenever it was hashed and found whole: read-only, its time of modification
//! set to [`SEALED_AT`], its signature remembered. A blob whose signature is the remembered one is taken as whole
//! without being read. Any write changes the time of modification, whatever the resolution of the file system's clock,
//! because no clock shows [`SEALED_AT`] any more; any replacement changes the inode. So a flipped byte is found at the
//! price of one `stat` a file, and a whole store that was copied or restored is hashed once.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use contract::Digest;

use super::error::{Damage, Fault, Object, Result, StoreError};
use super::index::Index;
use super::signature::Signature;
use super::{HASHING, Store, lock_mutex, write};

/// One second after 1970: no file is written then.
const SEALED_AT: Duration = Duration::from_secs(1);
/// Permissions of blobs and trees.
pub(super) const READ_ONLY: u32 = 0o444;

/// The seals of a store.
#[derive(Debug)]
pub(super) struct Seals {
    index: Index,
    known: HashMap<Digest, Signature>,
}

impl Seals {
    pub(super) fn load(index: Index) -> Self {
        let mut seals = Self { index, known: HashMap::new() };
        let all = seals.index.all();
        seals.known.reserve(all.iter().map(Vec::len).sum());
        seals.known.extend(all.into_iter().flatten());
        seals
    }

    fn refresh(&mut self) {
        self.known.extend(self.index.news());
    }

    pub(super) fn holds(&mut self, digest: Digest, signature: Signature) -> bool {
        if self.known.get(&digest) == Some(&signature) {
            return true;
        }
        self.refresh();
        self.known.get(&digest) == Some(&signature)
    }

    pub(super) fn compact(&mut self, temporary: &Path) {
        self.index.compact(temporary, self.known.iter().map(|(digest, signature)| (*digest, *signature)));
    }
}

/// Makes a file read-only and its time of modification [`SEALED_AT`].
pub(super) fn freeze(path: &Path) -> io::Result<()> {
    // Another owner's blob can be whole and cannot be changed by us: its signature then is what it is.
    let owner = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    };
    // What is right already is left alone: any change, even to what it is, gives the file another signature, and spoils
    // the work of whoever hashes it at the same time.
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

impl Store {
    /// Remembers the signatures of blobs that are known to be whole now.
    pub(super) fn seal(&self, blobs: &[Digest]) -> Result<()> {
        let mut entries = Vec::with_capacity(blobs.len());
        for digest in blobs {
            let path = self.layout().blob(*digest);
            let metadata = fs::symlink_metadata(&path).map_err(StoreError::io("read", &path))?;
            entries.push((*digest, Signature::of(&metadata)));
        }
        let mut seals = lock_mutex(&self.inner.seals);
        if self.is_writable() && !entries.is_empty() {
            seals.index.append(&entries);
        }
        seals.known.extend(entries);
        Ok(())
    }

    /// Checks a blob: by its seal, and by its content where the seal does not hold.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: the blob was moved aside, unless the store is open for reading only.
    pub(super) fn check_blob(&self, digest: Digest, size: u64) -> Result<()> {
        if self.seal_holds(digest, size)? {
            return Ok(());
        }
        // Stages that share a blob wait for one of them to hash it.
        let _hashing = lock_mutex(&self.inner.hashing[usize::from(digest.as_bytes()[0]) % HASHING]);
        if self.seal_holds(digest, size)? {
            return Ok(());
        }
        self.rehash_blob(digest, size, |_| !self.stop.is_set())
    }

    fn seal_holds(&self, digest: Digest, size: u64) -> Result<bool> {
        let signature = self.stat_blob(digest, size)?;
        Ok(lock_mutex(&self.inner.seals).holds(digest, signature))
    }

    /// Checks a blob by its content, and seals it. `piece` is told the bytes of each piece, and stops the work by returning
    /// false.
    pub(super) fn rehash_blob(&self, digest: Digest, size: u64, mut piece: impl FnMut(u64) -> bool) -> Result<()> {
        let path = self.layout().blob(digest);
        // A blob may go at any time: another process finds the same damage and moves it aside.
        let gone = |attempt: &'static str, error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.damaged_blob(digest, Fault::Missing),
            _ => StoreError::io(attempt, &path)(error),
        };
        loop {
            if self.is_writable() {
                // What is no file is moved aside before anything is done to it, or to what it leads to.
                self.stat_blob(digest, size)?;
                freeze(&path).map_err(|error| gone("seal", error))?;
            }
            let before = self.stat_blob(digest, size)?;
            let found = Digest::of_file_told(&path, &mut piece).map_err(|error| gone("read", error))?;
            let found = found.ok_or(StoreError::Interrupted)?;
            // Else it was written, or replaced by another process that adopted the same content, while it was read.
            if self.stat_blob(digest, size)? == before {
                return match found == digest {
                    true => self.seal(&[digest]),
                    false => Err(self.damaged_blob(digest, Fault::Content { found })),
                };
            }
        }
    }

    fn stat_blob(&self, digest: Digest, size: u64) -> Result<Signature> {
        let path = self.layout().blob(digest);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(self.damaged_blob(digest, Fault::Format("not a file".to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.damaged_blob(digest, Fault::Missing));
            }
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        if metadata.len() != size {
            return Err(self.damaged_blob(digest, Fault::Size { expected: size, found: metadata.len() }));
        }
        Ok(Signature::of(&metadata))
    }

    fn damaged_blob(&self, digest: Digest, fault: Fault) -> StoreError {
        self.damage(Object::Blob(digest), fault, &self.layout().blob(digest))
    }

    /// [`Store::damage`] as an answer.
    pub(super) fn damaged(&self, object: Object, fault: Fault, path: &Path) -> Result<Damage> {
        match self.damage(object, fault, path) {
            StoreError::Damaged(damage) => Ok(damage),
            error => Err(error),
        }
    }

    /// Reports an object as damaged, and moves it aside where the store may be written.
    pub(super) fn damage(&self, object: Object, fault: Fault, path: &Path) -> StoreError {
        let mut aside = None;
        if self.is_writable() && fault != Fault::Missing {
            match write::move_aside(path, &self.layout().folder("damaged")) {
                Ok(place) => aside = Some(place),
                // Another process was first.
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return error,
            }
        }
        tracing::warn!(%object, %fault, "damaged object");
        StoreError::Damaged(Damage { object, fault, aside })
    }
}
