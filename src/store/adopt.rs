//! Taking a stage's output into the store.
//!
//! In this order: each staged file is synced, sealed and renamed to its place among the blobs; the folders are synced;
//! the trees are written. So a kill at any point leaves whole blobs that no tree names, or whole trees that no record
//! names, and nothing half written. The record is written last, by [`super::Store::record`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use contract::{Digest, InputFile, InputTree, Inputs, Staged, Tree, TreeEntry};

use super::error::{Fault, Object, Result, StoreError};
use super::{Store, failpoint, seals, text, write};

impl Store {
    /// Moves staged files into the store and writes their trees; the digest of each port's tree. A file whose content
    /// the store has, linked or written again, is not moved.
    ///
    /// # Errors
    /// When a staged file is not as it was written, the disk is full, or a linked blob is damaged.
    pub fn adopt(&self, outputs: Staged) -> Result<BTreeMap<String, Digest>> {
        self.writable()?;
        let mut moved = BTreeSet::new();
        for (port, (_, files)) in &outputs {
            for (entry, location) in files {
                if !moved.contains(&entry.digest) && self.adopt_file(port, entry, location)? {
                    moved.insert(entry.digest);
                }
            }
        }
        let folders: BTreeSet<_> = moved.iter().filter_map(|digest| self.folder_of(*digest)).collect();
        folders.iter().try_for_each(|folder| write::sync_folder(folder))?;
        self.seal(&moved.into_iter().collect::<Vec<_>>())?;
        outputs.into_iter().map(|(port, (tree, _))| Ok((port, self.write_tree(&tree)?))).collect()
    }

    fn folder_of(&self, digest: Digest) -> Option<PathBuf> {
        self.layout().blob(digest).parent().map(Path::to_owned)
    }

    /// Whether the file was moved.
    fn adopt_file(&self, port: &str, entry: &TreeEntry, location: &Path) -> Result<bool> {
        let blob = self.layout().blob(entry.digest);
        match self.check_blob(entry.digest, entry.size) {
            Ok(()) => return Ok(false),
            Err(StoreError::Damaged(damage)) if location == blob => return Err(StoreError::Damaged(damage)),
            // Not there, or no longer there.
            Err(StoreError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        let wrong = |problem| StoreError::Output { port: port.to_owned(), path: entry.path.to_string(), problem };
        let metadata = fs::symlink_metadata(location).map_err(|_| wrong("gone before it was taken into the store"))?;
        if !metadata.is_file() {
            return Err(wrong("not a regular file"));
        }
        if metadata.len() != entry.size {
            return Err(wrong("not as long as it was when it was written"));
        }
        failpoint::pass("adopt-before-sync");
        File::open(location).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", location))?;
        failpoint::pass("adopt-before-seal");
        seals::freeze(location).map_err(StoreError::io("seal", location))?;
        if let Some(folder) = blob.parent() {
            write::make_folder(folder)?;
        }
        failpoint::pass("adopt-before-rename");
        fs::rename(location, &blob).map_err(StoreError::io("move an output to", &blob))?;
        failpoint::pass("adopt-after-rename");
        Ok(true)
    }

    pub(super) fn write_tree(&self, tree: &Tree) -> Result<Digest> {
        let digest = tree.digest();
        let path = self.layout().tree(digest);
        if let Some(folder) = path.parent() {
            write::make_folder(folder)?;
        }
        let text = tree.encode();
        let create = || write::create(&self.layout().folder("tmp"), &path, text.as_bytes(), seals::READ_ONLY);
        if !create()? {
            match self.listing(digest) {
                Ok(_) => {}
                Err(StoreError::Damaged(_)) => drop(create()?),
                Err(error) => return Err(error),
            }
        }
        Ok(digest)
    }

    /// The files of a tree.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is missing or not what its digest says.
    pub fn listing(&self, digest: Digest) -> Result<Tree> {
        let path = self.layout().tree(digest);
        let damage = |fault| self.damage(Object::Tree(digest), fault, &path);
        let text = match text::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damage(Fault::Missing)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(damage(Fault::Format(error.to_string())));
            }
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let tree = Tree::decode(&text).map_err(|error| damage(Fault::Format(error.to_string())))?;
        match tree.digest() {
            found if found == digest => Ok(tree),
            found => Err(damage(Fault::Content { found })),
        }
    }

    /// A tree with the places of its files, as a stage reads it. The blobs are not checked here but by
    /// [`Store::lookup`] and [`Store::check`].
    ///
    /// # Errors
    /// As [`Store::listing`].
    pub fn tree(&self, digest: Digest) -> Result<InputTree> {
        let file = |entry: &TreeEntry| InputFile {
            path: entry.path.clone(),
            location: self.layout().blob(entry.digest),
            digest: entry.digest,
            size: entry.size,
        };
        Ok(InputTree { digest, files: self.listing(digest)?.entries().iter().map(file).collect() })
    }

    /// Those of these trees, by port, that can be read: for whoever can do without the others.
    pub fn readable(&self, trees: &BTreeMap<String, Digest>) -> Inputs {
        let readable = trees.iter().filter_map(|(port, tree)| Some((port.clone(), self.tree(*tree).ok()?)));
        Inputs::new(readable.collect())
    }

    /// Looks at every blob of a tree as [`Store::lookup`] does: by its seal, and by its content where that does not hold.
    /// What is damaged is moved aside and returned.
    ///
    /// # Errors
    /// When the store cannot be read, or the tree itself is damaged.
    pub fn check(&self, digest: Digest) -> Result<Vec<super::Damage>> {
        self.damages(self.listing(digest)?.entries())
    }

    /// What is damaged among these files.
    pub(super) fn damages(&self, entries: &[TreeEntry]) -> Result<Vec<super::Damage>> {
        let mut damages = Vec::new();
        for entry in entries {
            match self.check_blob(entry.digest, entry.size) {
                Ok(()) => {}
                Err(StoreError::Damaged(damage)) => damages.push(damage),
                Err(error) => return Err(error),
            }
        }
        Ok(damages)
    }
}
