//! Architecture layer 2: the store, a directory that keeps every output under the hash of its content.
//!
//! `docs/store.md` describes the layout and format of its files, and what it promises to users.
//!
//! # Components
//! | component | type | promise |
//! |---|---|---|
//! | [`objects`] | [`Objects`] | blobs and trees by digest; a damaged one is found before it is used, and moved aside |
//! | [`builds`] | [`Builds`] | records by key; all builds are kept, and builds with different outputs are reported |
//! | [`work`] | [`Work`] | one builder for each key, with scratch that is reused only for the same inputs |
//! | [`runs`] | [`Runs`] | past runs with their outputs by name, and their owner |
//! | [`collection`] | [`Leases`] | data in use is never removed; inventory, eviction and repair of the whole store |
//! | `stat` | [`Sources`] | digests of files outside the store; unchanged files are not read again |
//!
//! Objects and records are found by digest only, through `Objects` and `Builds`. All components read paths of one local directory; "Where a
//! remote store would plug in" in `docs/store.md` says what a remote store would need. A kill at any point leaves no blob, tree or record
//! half written. A run in which nothing changed reads no data ([`Sources`]). To the store, a key is a digest. Each record contains the
//! content of its key, which the store does not interpret.

pub mod builds;
pub mod collection;
mod error;
pub mod failpoint;
mod files;
mod layout;
pub mod objects;
mod open;
mod root;
pub mod runs;
mod stat;
pub mod work;

pub use builds::{Builds, Hit, KeyBuilds, LastBuild, LedgerEntry, Lookup, Machine, Record, milliseconds};
pub use collection::{
    GcGuard, GcOptions, GcRoot, Inventory, Lease, LeaseInfo, Leases, Removals, RemovedBuild, Retained, StoreGuard,
    Totals, Verification,
};
pub use contract::Staged;
pub use error::{Damage, FORMAT, Fault, Object, Result, StoreError};
pub use layout::{Layout, file_name};
pub use objects::Objects;
pub use runs::{OpenRun, RunDir, Runs};
pub use stat::{Signature, SourceSnapshot, Sources};
pub use work::{KeyLock, LockHolder, LockState, Work, WorkDirs};

use root::Root;

/// A store: six components over one directory. Clones share it; all methods may be called from any thread.
#[derive(Debug, Clone)]
pub struct Store {
    root: Root,
    /// Blobs and trees.
    pub objects: Objects,
    /// Records of builds.
    pub builds: Builds,
    /// Locks and working directories of keys.
    pub work: Work,
    /// Past runs.
    pub runs: Runs,
    /// Leases of running processes, and the lock that orders lookups and removals.
    pub leases: Leases,
    /// Digests of files outside the store.
    pub sources: Sources,
}

impl Store {
    /// The store's paths.
    pub fn layout(&self) -> &Layout {
        &self.root.layout
    }

    /// Returns whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.root.writes
    }

    /// Returns whether nothing was ever built in it.
    pub fn is_empty(&self) -> bool {
        std::fs::read_dir(self.layout().dir("records")).map_or(true, |mut entries| entries.next().is_none())
    }

    /// Copies a tree with its blobs from another store, and hashes each blob. Records no build.
    pub fn copy_tree(&self, from: &Self, tree: contract::Digest) -> Result<()> {
        let _guard = self.leases.guard()?;
        self.objects.copy_tree(&from.objects, tree)
    }
}
