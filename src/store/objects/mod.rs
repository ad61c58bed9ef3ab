//! Objects: blobs (immutable files) and trees (lists of files), identified by digest.
//!
//! A tree is checked by its digest each time it is read, a blob by its seal ([`seals`]). A damaged object is moved aside,
//! unless the store is read-only, and reported as [`StoreError::Damaged`].

mod adopt;
mod check;
mod seals;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use contract::{Derived, Digest, InputFile, InputTree, Inputs, Tree, TreeEntry};

use super::files::{self, READ_ONLY};
use super::stat::Index;
use super::{Damage, Fault, Object, Result, Root, StoreError};

/// The maximum number of blobs with broken seals that one process hashes at the same time.
const HASHING: usize = 16;

/// The blobs and trees of a store.
#[derive(Debug, Clone)]
pub struct Objects {
    pub(super) root: Root,
    /// The signatures of sealed blobs ([`seals`]).
    seals: Arc<Mutex<Index>>,
    /// The lock that is held while a blob is hashed, by the first byte of its digest.
    hashing: Arc<[Mutex<()>; HASHING]>,
}

impl Objects {
    pub(super) fn new(root: Root) -> Self {
        let [path, _] = root.layout.indexes();
        let seals = Arc::new(Mutex::new(Index::load(path)));
        Self { root, seals, hashing: Arc::default() }
    }

    /// Returns the same objects, read-only: damage is reported but not moved aside.
    pub(super) fn as_reader(&self) -> Self {
        Self { root: self.root.as_reader(), ..self.clone() }
    }

    /// Reads the list of files of a tree. Returns [`StoreError::Damaged`] if it is missing or does not match its
    /// digest.
    pub fn tree(&self, digest: Digest) -> Result<Tree> {
        let path = self.root.layout.tree(digest);
        let damage = |fault| self.root.damaged(Object::Tree(digest), fault, &path);
        let text = match files::read(&path) {
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

    /// Reads a tree with the locations of its files, as a stage reads it. Does not check the blobs ([`Objects::check`]
    /// does).
    pub fn input(&self, digest: Digest) -> Result<InputTree> {
        let file = |entry: &TreeEntry| InputFile {
            path: entry.path.clone(),
            location: self.root.layout.blob(entry.digest),
            digest: entry.digest,
            size: entry.size,
        };
        Ok(InputTree { digest, files: self.tree(digest)?.entries().iter().map(file).collect() })
    }

    /// Reads the given trees, by port, except unreadable ones.
    pub fn readable(&self, trees: &BTreeMap<String, Digest>) -> Inputs {
        let readable = trees.iter().filter_map(|(port, tree)| Some((port.clone(), self.input(*tree).ok()?)));
        Inputs::new(readable.collect())
    }

    /// Checks every blob of a tree, and returns those that are damaged.
    pub fn check(&self, digest: Digest) -> Result<Vec<Damage>> {
        self.check_entries(self.tree(digest)?.entries())
    }

    pub(super) fn check_entries(&self, entries: &[TreeEntry]) -> Result<Vec<Damage>> {
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

    /// Writes a tree, unless an undamaged one exists, and returns its digest.
    pub(super) fn write_tree(&self, tree: &Tree) -> Result<Digest> {
        let digest = tree.digest();
        let path = self.root.layout.tree(digest);
        files::make_parent(&path)?;
        let text = tree.encode();
        let create = || files::create(&self.root.layout.tmp(), &path, text.as_bytes(), READ_ONLY);
        if !create()? {
            match self.tree(digest) {
                Ok(_) => {}
                Err(StoreError::Damaged(_)) => drop(create()?),
                Err(error) => return Err(error),
            }
        }
        Ok(digest)
    }

    /// Returns the objects in `blobs`, `trees` or `published`, with their size in bytes.
    pub(super) fn list(&self, dir: &str) -> Result<BTreeMap<Digest, u64>> {
        let dir = self.root.layout.dir(dir);
        let mut objects = BTreeMap::new();
        for prefix in files::names(&dir)? {
            for name in files::names(&dir.join(&prefix))? {
                let path = dir.join(&prefix).join(&name);
                let (Ok(digest), Ok(metadata)) = (name.parse::<Digest>(), path.symlink_metadata()) else { continue };
                objects.insert(digest, metadata.len());
            }
        }
        Ok(objects)
    }

    /// Returns the files that are computed from trees alone, on demand.
    pub fn derived(&self) -> Derived {
        Derived::in_folder(self.root.layout.dir("derived"))
    }
}
