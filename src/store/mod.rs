//! Floor 2: the store, a folder that keeps every output under the hash of its content.
//!
//! ```text
//! CACHEDIR.TAG             tells backup programs to pass it over
//! version                  the format, 2
//! blobs/<aa>/<digest>      immutable files, read-only
//! trees/<aa>/<digest>      an output: the list of its files (contract::Tree), itself hashed
//! records/<key>/<n>.json   what the n-th build of that key gave; all builds are kept
//! ledger/<key>/<n>.json    the same of builds whose bytes went to make room or were damaged
//! work/<key>/scratch/      owned by whoever builds the key; survives a crash
//! work/<key>/ground        what scratch was made from: another ground, and it is emptied
//! work/<key>/staging/      the output of the build under way; emptied before each
//! runs/<run>/<n>/          a run of that name: events, lock, page; each stage's outputs by name as links to `published/`
//! published/<aa>/<tree>/   the files of a tree by name, as links to blobs
//! locks/<key>              one lock of the operating system a key
//! leases/                  what running processes use, so that nothing of it is removed
//! derived/                 what follows from a tree alone, made on demand (contract::derived); may go at any time
//! stat/blobs, stat/sources what `stat` said of files whose digest is known
//! damaged/                 what was found damaged, moved aside
//! tmp/                     files before their rename
//! ```
//!
//! It promises:
//! - A kill at any point leaves no blob, tree or record that is half written (`adopt`).
//! - What is damaged is found before it is used, reported, moved aside and rebuilt (`seals`).
//! - Two processes may use one store at the same time; each key is built once (`lock`).
//! - Several builds of one key with different outputs are reported; the first one recorded is used (`lookup`).
//! - A run in which nothing changed reads no data (`sources`).
//!
//! A key is a digest here. What it is made of is kept with each build, written out, and not looked into.

mod adopt;
mod census;
mod checked;
mod copy;
mod error;
pub mod failpoint;
mod gc;
mod ground;
mod index;
mod keys;
mod last_builds;
mod layout;
mod lease;
mod ledger;
mod lock;
mod lookup;
mod migrate;
mod misplaced;
mod names;
mod price;
mod project;
mod published;
mod record;
mod runs;
mod sealed;
mod seals;
mod signature;
mod sources;
mod text;
mod verify;
mod write;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use census::{Census, Totals};
pub use contract::Staged;
pub use error::{Damage, Fault, Object, Result, StoreError};
pub use gc::{Holder, Kept, Removals, RemovedBuild, Removing, Wish};
pub use last_builds::LastBuild;
pub use layout::{Layout, file_name};
pub use lease::{Gate, Lease, LeaseInfo};
pub use ledger::LedgerEntry;
pub use lock::{Held, HolderInfo, KeyLock, Work};
pub use lookup::{Builds, Hit, Lookup};
pub use record::{Machine, Record, milliseconds};
pub use runs::{OpenRun, RunFolder};
pub use signature::Signature;
pub use sources::SourceSnapshot;
pub use verify::Verdict;

use contract::{Cancel, Derived};
use nix::unistd::{AccessFlags, access};

use crate::clock;
use index::Index;
use seals::Seals;
use sources::Sources;

/// The format that this program reads and writes, as the `version` file has it.
pub const FORMAT: u32 = 2;

/// The format before it, which [`Store::open`] turns into this one.
const OLDER: u32 = 1;

const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This file is a cache directory tag created by pipeline.\n\
    # For information about cache directory tags, see https://bford.info/cachedir/\n";

/// How many blobs one process hashes at a time, at most, whose seals do not hold.
const HASHING: usize = 16;

/// How old a file in `tmp/` must be to be nobody's any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A store. Clones share it; all methods may be called from any thread.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Ends the hashing of blobs, and waiting for the gate.
    stop: Cancel,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    writes: bool,
    seals: Mutex<Seals>,
    sources: Mutex<Sources>,
    /// Held while a blob is hashed because its seal does not hold, by the first byte of its digest.
    hashing: [Mutex<()>; HASHING],
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store at `path`, making it where there is none.
    ///
    /// # Errors
    /// When the path is a file or a folder of other things, the format is a newer one, or nothing can be written.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_until(path, &Cancel::default())
    }

    /// The same for a store that stops as [`Store::stopped_by`] says, also while it waits to be opened.
    ///
    /// # Errors
    /// As [`Store::open`]; [`StoreError::Interrupted`] when `stop` was set while it waited.
    pub fn open_until(path: &Path, stop: &Cancel) -> Result<Self> {
        let exists = inspect(path)?;
        fs::create_dir_all(path).map_err(StoreError::io("make the store", path))?;
        let root = fs::canonicalize(path).map_err(StoreError::io("open the store", path))?;
        let version = root.join("version");
        let store = Self::at(root.clone(), true).stopped_by(stop);
        // What is there in its place is nothing that a program of another format wrote.
        if !exists || text::read(&version).map_or(true, |text| text.trim() != FORMAT.to_string()) {
            store.migrate_runs()?;
            failpoint::pass("open-before-version");
            write::replace(&root, &version, format!("{FORMAT}\n").as_bytes(), 0o644)?;
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            write::replace(&root, &tag, CACHEDIR_TAG.as_bytes(), 0o644)?;
        }
        for folder in layout::FOLDERS.map(|name| root.join(name)) {
            if folder.symlink_metadata().is_ok() && !folder.is_dir() {
                let damaged = root.join("damaged");
                if damaged.symlink_metadata().is_ok() && !damaged.is_dir() {
                    write::move_aside(&damaged, &root)?;
                }
                write::make_folder(&damaged)?;
                if folder != damaged {
                    write::move_aside(&folder, &damaged)?;
                }
            }
            write::make_folder(&folder)?;
        }
        // What is no file there would keep every later run from remembering anything.
        for index in ["blobs", "sources"].map(|name| root.join("stat").join(name)) {
            if index.symlink_metadata().is_ok_and(|found| !found.is_file()) {
                write::move_aside(&index, &root.join("damaged"))?;
            }
        }
        store.tidy();
        Ok(store)
    }

    /// Opens the store at `path` without writing anything, now or later: damage is reported and left where it is, and
    /// digests are remembered until the program ends. Where there is no store, an empty one is seen.
    ///
    /// # Errors
    /// When the path is a file or a folder of other things, or the format is a newer one.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let root = if inspect(path)? { fs::canonicalize(path) } else { std::path::absolute(path) };
        Ok(Self::at(root.map_err(StoreError::io("open the store", path))?, false))
    }

    /// Whether there is a store at `path` that this program can use.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn is_at(path: &Path) -> Result<bool> {
        inspect(path)
    }

    fn at(root: PathBuf, writes: bool) -> Self {
        let layout = Layout::new(root);
        let index = |name: &str| Index::new(layout.folder("stat").join(name));
        let (seals, sources) = (Seals::load(index("blobs")), Sources::load(index("sources")));
        let (seals, sources) = (Mutex::new(seals), Mutex::new(sources));
        let hashing = Default::default();
        Self { inner: Arc::new(Inner { layout, writes, seals, sources, hashing }), stop: Cancel::default() }
    }

    /// The same store, which stops hashing blobs and waiting for the gate, with [`StoreError::Interrupted`], once `stop` is
    /// set.
    pub fn stopped_by(mut self, stop: &Cancel) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Whether it is open for writing.
    pub fn is_writable(&self) -> bool {
        self.inner.writes
    }

    /// Looks whether a run could be recorded in it, and writes nothing.
    ///
    /// # Errors
    /// Where the file system or its permissions refuse.
    pub fn check_writable(&self) -> Result<()> {
        let gate = self.layout().gate();
        let folders = layout::FOLDERS.map(|name| self.layout().folder(name));
        for path in folders.iter().chain([&gate]).filter(|path| path.exists()) {
            access(path, AccessFlags::W_OK).map_err(|error| StoreError::io("write", path)(error.into()))?;
        }
        Ok(())
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    fn is_of_older_format(&self) -> bool {
        text::read(&self.layout().root().join("version")).is_ok_and(|text| text.trim() == OLDER.to_string())
    }

    /// Whether nothing was ever built in it.
    pub fn is_empty(&self) -> bool {
        let records = self.layout().folder("records");
        fs::read_dir(records).map_or(true, |mut entries| entries.next().is_none())
    }

    /// What follows from trees alone and is made on demand: a cache within the store.
    pub fn derived(&self) -> Derived {
        Derived::in_folder(self.layout().folder("derived"))
    }

    /// The same store for reading only, as [`Store::open_read_only`] opens it.
    pub fn as_reader(&self) -> Self {
        Self::at(self.layout().root().to_owned(), false)
    }

    fn writable(&self) -> Result<()> {
        if self.is_writable() { Ok(()) } else { Err(StoreError::ReadOnly) }
    }

    /// Removes what crashes left in `tmp/`, and the lines of the indexes that newer ones replace.
    fn tidy(&self) {
        let temporary = self.layout().folder("tmp");
        let old = |entry: &fs::DirEntry| {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|time| clock::since(time) > ABANDONED)
        };
        let abandoned: Vec<_> = fs::read_dir(&temporary).into_iter().flatten().flatten().filter(old).collect();
        // A clock may jump: what is old is nobody's only where nobody is at work.
        if !abandoned.is_empty()
            && let Some(_gate) = self.gate_if_idle()
        {
            for path in abandoned.iter().map(fs::DirEntry::path) {
                // What cannot be removed now stays until the next time.
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
        lock_mutex(&self.inner.seals).compact(&temporary);
        lock_mutex(&self.inner.sources).compact(&temporary);
    }
}

/// Whether there is a store at `path` that this program can use; false where one can be made.
fn inspect(path: &Path) -> Result<bool> {
    let version = path.join("version");
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(StoreError::NotAFolder(path.to_owned()));
        }
        Err(error) => return Err(StoreError::io("open the store", path)(error)),
        Ok(metadata) if !metadata.is_dir() => return Err(StoreError::NotAFolder(path.to_owned())),
        Ok(_) => {}
    }
    match text::read(&version) {
        Ok(text) if [OLDER, FORMAT].iter().any(|known| text.trim() == known.to_string()) => Ok(true),
        // The tag is written after the version: where it is ours, the version was lost.
        Ok(text) if text.trim().parse::<u64>().is_err() && is_ours(path) => Ok(true),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidData)
                && is_ours(path) =>
        {
            Ok(true)
        }
        Ok(text) => Err(StoreError::Format { path: path.to_owned(), found: text.trim().chars().take(32).collect() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A folder with a note about what it is for is free; one with other things is somebody's.
            let free = |name: &str| name.starts_with('.') || name.starts_with("README") || name == "CACHEDIR.TAG";
            for entry in fs::read_dir(path).map_err(StoreError::io("open the store", path))? {
                let entry = entry.map_err(StoreError::io("open the store", path))?;
                if !free(&entry.file_name().to_string_lossy()) {
                    // Another process may have made a store here since.
                    return if version.exists() { inspect(path) } else { Err(StoreError::NotAStore(path.to_owned())) };
                }
            }
            Ok(false)
        }
        Err(error) => Err(StoreError::io("read", &version)(error)),
    }
}

/// Whether a program of this format made the folder: it says so, or holds all that a store holds.
fn is_ours(path: &Path) -> bool {
    match text::read(&path.join("CACHEDIR.TAG")) {
        Ok(tag) => tag == CACHEDIR_TAG,
        Err(_) => {
            // One of the format before has nothing published.
            layout::FOLDERS.iter().filter(|name| **name != "published").all(|name| path.join(name).is_dir())
        }
    }
}
