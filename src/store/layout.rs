//! Where things lie in a store.

use std::path::{Path, PathBuf};

use contract::Digest;

use super::error::{Result, StoreError};

/// The folders that [`super::Store::open`] makes.
pub(super) const FOLDERS: [&str; 12] =
    ["blobs", "trees", "records", "ledger", "work", "runs", "published", "locks", "leases", "stat", "damaged", "tmp"];

/// The paths of one store.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A store at this path.
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The store itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `blobs/<aa>/<digest>`.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join(Self::blob_name(digest))
    }

    /// `trees/<aa>/<digest>`.
    pub fn tree(&self, digest: Digest) -> PathBuf {
        self.root.join(Self::tree_name(digest))
    }

    /// `published/<aa>/<tree>/`.
    pub fn published(&self, tree: Digest) -> PathBuf {
        self.root.join(Self::published_name(tree))
    }

    /// `records/<key>/`.
    pub fn records(&self, key: Digest) -> PathBuf {
        self.root.join("records").join(key.to_string())
    }

    /// `records/<key>/<build>.json`.
    pub fn record(&self, key: Digest, build: u32) -> PathBuf {
        self.records(key).join(format!("{build:04}.json"))
    }

    /// `ledger/<key>/`: the records of builds whose bytes are gone.
    pub fn ledger(&self, key: Digest) -> PathBuf {
        self.root.join("ledger").join(key.to_string())
    }

    /// `work/<key>/`.
    pub fn work(&self, key: Digest) -> PathBuf {
        self.root.join("work").join(key.to_string())
    }

    /// `locks/<key>`.
    pub fn lock(&self, key: Digest) -> PathBuf {
        self.root.join("locks").join(key.to_string())
    }

    /// `leases/.gate`: the lock that orders finding and removing.
    pub fn gate(&self) -> PathBuf {
        self.root.join("leases").join(".gate")
    }

    /// `runs/<run>/`.
    ///
    /// # Errors
    /// When the name cannot be a file name.
    pub fn run(&self, run: &str) -> Result<PathBuf> {
        Ok(self.root.join("runs").join(file_name(run)?))
    }

    /// A folder of [`FOLDERS`].
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// [`Layout::blob`] from the root.
    pub(super) fn blob_name(digest: Digest) -> String {
        object("blobs", digest)
    }

    /// [`Layout::published`] from the root.
    pub(super) fn published_name(digest: Digest) -> String {
        object("published", digest)
    }

    /// [`Layout::tree`] from the root.
    pub(super) fn tree_name(digest: Digest) -> String {
        object("trees", digest)
    }
}

fn object(folder: &str, digest: Digest) -> String {
    let name = digest.to_string();
    format!("{folder}/{}/{name}", &name[..2])
}

/// `name`, when it is safe as the name of a file: 1 to 128 of letters, digits, `.`, `_` and `-`, the first a letter or
/// digit. So it cannot leave its folder, and names that begin with a dot stay the store's own.
///
/// # Errors
/// [`StoreError::Name`].
pub fn file_name(name: &str) -> Result<&str> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= 128 && name.chars().all(safe) { Ok(name) } else { Err(StoreError::Name(name.to_owned())) }
}
