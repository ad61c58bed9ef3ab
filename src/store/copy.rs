//! Taking what a build gave over from another store.

use std::fs;

use contract::{Digest, Tree};

use super::error::{Result, StoreError};
use super::{Store, failpoint, seals, write};

impl Store {
    /// Copies a tree with its blobs from another store. Every blob is hashed here: what is wrong there cannot become right by
    /// being copied. Nothing is recorded: no stage is built by it.
    ///
    /// # Errors
    /// When something is damaged or missing there, or cannot be written here.
    pub fn copy_tree(&self, from: &Self, tree: Digest) -> Result<()> {
        let _gate = self.gate()?;
        let listed: Tree = from.listing(tree)?;
        for entry in listed.entries() {
            self.copy_blob(from, entry.digest, entry.size)?;
        }
        self.write_tree(&listed).map(drop)
    }

    fn copy_blob(&self, from: &Self, digest: Digest, size: u64) -> Result<()> {
        if matches!(self.check_blob(digest, size), Ok(())) {
            return Ok(());
        }
        let (source, place) = (from.layout().blob(digest), self.layout().blob(digest));
        let temporary = tempfile::NamedTempFile::new_in(self.layout().folder("tmp"))
            .map_err(StoreError::io("write", &place))?
            .into_temp_path();
        fs::copy(&source, &temporary).map_err(StoreError::io("read", &source))?;
        fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &temporary))?;
        seals::freeze(&temporary).map_err(StoreError::io("seal", &temporary))?;
        place.parent().map_or(Ok(()), write::make_folder)?;
        failpoint::pass("copy-before-rename");
        temporary.persist(&place).map_err(|error| StoreError::io("write", &place)(error.error))?;
        write::sync_parent(&place)?;
        self.rehash_blob(digest, size, |_| !self.stop.is_set())
    }
}
