//! Paths in a store.

use std::path::{Path, PathBuf};

use contract::Digest;

use super::error::{Result, StoreError};

/// The directories that [`super::Store::open`] creates.
pub(super) const DIRS: [&str; 12] =
    ["blobs", "trees", "records", "ledger", "work", "runs", "published", "locks", "leases", "stat", "damaged", "tmp"];

/// The paths of one store.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Returns the paths of the store at `root`.
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `blobs/<aa>/<digest>`.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join(object("blobs", digest))
    }

    /// `trees/<aa>/<digest>`.
    pub fn tree(&self, digest: Digest) -> PathBuf {
        self.root.join(object("trees", digest))
    }

    /// `published/<aa>/<tree>/`.
    pub fn published(&self, tree: Digest) -> PathBuf {
        self.root.join(object("published", tree))
    }

    /// `records/<key>/`.
    pub fn records(&self, key: Digest) -> PathBuf {
        self.root.join("records").join(key.to_string())
    }

    /// `records/<key>/<build>.json`.
    pub fn record(&self, key: Digest, build: u32) -> PathBuf {
        self.records(key).join(format!("{build:04}.json"))
    }

    /// `ledger/<key>/`.
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

    /// `leases/.gate`: the lock that orders lookups and removals.
    pub fn gate(&self) -> PathBuf {
        self.root.join("leases").join(".gate")
    }

    /// `runs/<run>/`; [`StoreError::Name`] if the name is not safe as a file name.
    pub fn run(&self, run: &str) -> Result<PathBuf> {
        Ok(self.root.join("runs").join(file_name(run)?))
    }

    /// Returns one of the store's directories.
    pub(super) fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `tmp/`.
    pub(super) fn tmp(&self) -> PathBuf {
        self.dir("tmp")
    }

    /// Returns the paths of the two indexes of `stat/`.
    pub(super) fn indexes(&self) -> [PathBuf; 2] {
        ["blobs", "sources"].map(|name| self.dir("stat").join(name))
    }
}

/// Returns the path of an object relative to the root: `<dir>/<aa>/<digest>`.
pub(super) fn object(dir: &str, digest: Digest) -> String {
    let name = digest.to_string();
    format!("{dir}/{}/{name}", &name[..2])
}

/// Returns `name` if it is safe as a file name: 1 to 128 letters, digits, `.`, `_` and `-`, beginning with a letter or
/// digit. Such a name cannot leave its directory, and names that begin with a dot are reserved for the store.
///
/// # Errors
/// [`StoreError::Name`].
pub fn file_name(name: &str) -> Result<&str> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= 128 && name.chars().all(safe) { Ok(name) } else { Err(StoreError::Name(name.to_owned())) }
}
