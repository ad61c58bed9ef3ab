//! Adding objects: the output of a stage, or a tree of another store.
//!
//! Each staged file, which [`contract::Outputs`] has synced, is sealed and renamed to its path in `blobs`; the directories are synced; the
//! trees are written. So a kill at any point leaves complete blobs without a tree, or complete trees without a record, and nothing half
//! written. The record is written last, by [`crate::store::Builds::record`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use contract::{Digest, Staged, TreeEntry};

use super::{Objects, seals};
use crate::store::{Result, StoreError, failpoint, files};

impl Objects {
    /// Moves staged files into the store, writes their trees, and returns the digest of each port's tree. A file whose
    /// content is in the store is not moved.
    ///
    /// # Errors
    /// [`StoreError::Output`] if a staged file changed after it was written; [`StoreError::Damaged`] if a linked blob is damaged.
    pub fn adopt(&self, outputs: Staged) -> Result<BTreeMap<String, Digest>> {
        self.root.check_writable()?;
        let mut moved = BTreeSet::new();
        for (port, (_, files)) in &outputs {
            for (entry, location) in files {
                if !moved.contains(&entry.digest) && self.adopt_file(port, entry, location)? {
                    moved.insert(entry.digest);
                }
            }
        }
        let parent = |digest: &Digest| self.root.layout.blob(*digest).parent().map(Path::to_owned);
        let dirs: BTreeSet<_> = moved.iter().filter_map(parent).collect();
        dirs.iter().try_for_each(|dir| files::sync_dir(dir))?;
        self.seal(&moved.into_iter().collect::<Vec<_>>())?;
        outputs.into_iter().map(|(port, (tree, _))| Ok((port, self.write_tree(&tree)?))).collect()
    }

    /// Returns whether the file was moved.
    fn adopt_file(&self, port: &str, entry: &TreeEntry, location: &Path) -> Result<bool> {
        let blob = self.root.layout.blob(entry.digest);
        match self.check_blob(entry.digest, entry.size) {
            Ok(()) => return Ok(false),
            Err(StoreError::Damaged(damage)) if location == blob => return Err(StoreError::Damaged(damage)),
            // It is missing, or has just been moved aside.
            Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let wrong = |problem| StoreError::Output { port: port.to_owned(), path: entry.path.to_string(), problem };
        let metadata = fs::symlink_metadata(location).map_err(|_| wrong("missing from the staging directory"))?;
        if !metadata.is_file() {
            return Err(wrong("not a regular file"));
        }
        if metadata.len() != entry.size {
            return Err(wrong("its size changed after it was written"));
        }
        failpoint::pass("adopt-before-freeze");
        seals::freeze(location).map_err(StoreError::io("seal", location))?;
        files::make_parent(&blob)?;
        failpoint::pass("adopt-before-rename");
        fs::rename(location, &blob).map_err(StoreError::io("move an output to", &blob))?;
        failpoint::pass("adopt-after-rename");
        Ok(true)
    }

    /// Copies a tree with its blobs from another store. Hashes every blob in this store.
    pub(in crate::store) fn copy_tree(&self, from: &Self, tree: Digest) -> Result<()> {
        let tree = from.tree(tree)?;
        for entry in tree.entries() {
            self.copy_blob(from, entry.digest, entry.size)?;
        }
        self.write_tree(&tree).map(drop)
    }

    fn copy_blob(&self, from: &Self, digest: Digest, size: u64) -> Result<()> {
        if self.check_blob(digest, size).is_ok() {
            return Ok(());
        }
        let (source, blob) = (from.root.layout.blob(digest), self.root.layout.blob(digest));
        let temporary = tempfile::NamedTempFile::new_in(self.root.layout.tmp())
            .map_err(StoreError::io("write", &blob))?
            .into_temp_path();
        fs::copy(&source, &temporary).map_err(StoreError::io("read", &source))?;
        fs::File::open(&temporary).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &temporary))?;
        seals::freeze(&temporary).map_err(StoreError::io("seal", &temporary))?;
        files::make_parent(&blob)?;
        failpoint::pass("copy-before-rename");
        temporary.persist(&blob).map_err(|error| StoreError::io("write", &blob)(error.error))?;
        files::sync_parent(&blob)?;
        self.rehash_blob(digest, size, |_| !self.root.stop.is_set())
    }
}
