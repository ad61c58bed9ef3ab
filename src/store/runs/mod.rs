//! Runs: a directory for each run of a name, with its events, page, lock and outputs by name. `runs/<run>/.lock` is locked while `latest`
//! is read and switched.

mod owner;
mod publish;

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Builds, Lease, Leases, Result, Root, StoreError, failpoint, file_name, files};

/// The runs of a store.
#[derive(Debug, Clone)]
pub struct Runs {
    root: Root,
    builds: Builds,
    leases: Leases,
}

/// The directory of one run. It is displayed, and named in its lease, as `quickstart.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    /// The run's name.
    pub run: String,
    /// Its number: 1 is the first run of that name.
    pub number: u32,
    /// The directory.
    pub path: PathBuf,
}

impl fmt::Display for RunDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.number)
    }
}

/// A run under way.
#[derive(Debug)]
pub struct OpenRun {
    /// Its directory.
    pub dir: RunDir,
    /// Protects what it uses until its lock is written.
    pub lease: Lease,
}

pub(super) const LATEST: &str = "latest";
pub(super) const LOCK: &str = ".lock";
const PINNED: &str = ".pinned";
/// The name of a directory in `runs/` with the last numbers of names whose runs were forgotten.
const NUMBERS: &str = ".numbers";

impl Runs {
    pub(super) fn new(root: Root, builds: Builds, leases: Leases) -> Self {
        Self { root, builds, leases }
    }

    /// Starts a run of this manifest: creates `runs/<run>/<number>/` and a lease. The lease comes first: a directory without a
    /// lock file and without a lease belongs to a run that was stopped. The store's guard is held meanwhile, so that no runs
    /// of that name are forgotten.
    ///
    /// # Errors
    /// [`StoreError::Owned`] if the name belongs to another manifest; [`StoreError::Name`].
    pub fn start(&self, run: &str, manifest: &Path) -> Result<OpenRun> {
        self.root.check_writable()?;
        let guard = self.leases.guard()?;
        files::make_dir(&self.root.layout.run(run)?)?;
        self.claim(run, manifest)?;
        let mut number = self.last_number(run)? + 1;
        loop {
            let dir = self.dir(run, number)?;
            let lease = self.leases.start_under(&guard, &dir.to_string())?;
            failpoint::pass("run-before-folder");
            match fs::create_dir(&dir.path) {
                Ok(()) => {
                    failpoint::pass("run-after-folder");
                    return Ok(OpenRun { dir, lease });
                }
                // Another process has started a run of that name meanwhile.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io("create", &dir.path)(error)),
            }
        }
    }

    /// Writes the lock of a run, which marks it as ended and names its outputs.
    pub fn write_lock(&self, dir: &RunDir, name: &str, text: &str) -> Result<()> {
        self.root.check_writable()?;
        failpoint::pass("lock-before-write");
        self.root.replace(&dir.path.join(name), text.as_bytes())
    }

    /// Points `runs/<run>/latest` to this run, atomically, unless it points to a later run or `replaces` returns false for the run that it
    /// points to. Runs of a name that end at the same time do this one after another.
    pub fn make_latest(&self, dir: &RunDir, replaces: impl FnOnce(Option<&RunDir>) -> Result<bool>) -> Result<()> {
        self.root.check_writable()?;
        let link = self.root.layout.run(&dir.run)?.join(LATEST);
        // Not under the store's guard: a run may end during `cache gc`. The lease of the run prevents its name from being forgotten.
        let _lock = self.lock_latest(&dir.run)?;
        let latest = self.latest(&dir.run)?;
        if latest.as_ref().is_some_and(|latest| latest.number >= dir.number) || !replaces(latest.as_ref())? {
            return Ok(());
        }
        failpoint::pass("latest-before-rename");
        files::replace_link(&self.root.layout.tmp(), &dir.number.to_string(), &link)
    }

    /// Waits until no other run of the name switches `latest`.
    fn lock_latest(&self, run: &str) -> Result<File> {
        let path = self.root.layout.run(run)?.join(LOCK);
        let file = files::open_lock(&path)?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(file)
    }

    /// Returns the run that `runs/<run>/latest` points to, if it exists.
    pub fn latest(&self, run: &str) -> Result<Option<RunDir>> {
        let target = fs::read_link(self.root.layout.run(run)?.join(LATEST)).ok();
        let number = target.and_then(|target| target.to_str()?.parse().ok());
        let dir = number.map(|number| self.dir(run, number)).transpose()?;
        Ok(dir.filter(|dir| dir.path.is_dir()))
    }

    /// Pins a run, so that `cache gc` does not forget it, or unpins it.
    pub fn pin(&self, dir: &RunDir, pinned: bool) -> Result<()> {
        self.root.check_writable()?;
        let path = dir.path.join(PINNED);
        if pinned { self.root.replace(&path, b"") } else { files::remove(&path) }
    }

    /// Returns whether a run is pinned.
    pub fn is_pinned(&self, dir: &RunDir) -> bool {
        dir.path.join(PINNED).symlink_metadata().is_ok()
    }

    /// Removes the directory of a past run: its events, its lock, its outputs by name. The outputs stay in the store until they are
    /// evicted, and the last builds are kept.
    pub fn forget(&self, dir: &RunDir) -> Result<()> {
        self.root.check_writable()?;
        // `latest` is removed first, so that it never dangles.
        let lock = self.lock_latest(&dir.run)?;
        if self.latest(&dir.run)?.is_some_and(|latest| latest.number == dir.number) {
            files::remove(&self.root.layout.run(&dir.run)?.join(LATEST))?;
        }
        drop(lock);
        failpoint::pass("forget-before-remove");
        files::remove(&dir.path)
    }

    /// Forgets all runs of a name, its last builds and its owner. Numbers are not reused, so that a link to a forgotten run never leads to
    /// another run.
    pub fn forget_all(&self, run: &str) -> Result<()> {
        self.root.check_writable()?;
        let path = self.numbers_path(run)?;
        files::make_parent(&path)?;
        self.root.replace(&path, format!("{}\n", self.last_number(run)?).as_bytes())?;
        files::remove(&self.root.layout.run(run)?)
    }

    /// Returns the highest number of any run of a name, including forgotten runs; 0 if there was none.
    fn last_number(&self, run: &str) -> Result<u32> {
        let path = self.numbers_path(run)?;
        let forgotten = match files::read(&path) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => 0,
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        Ok(self.numbers(run)?.last().map_or(forgotten, |last| forgotten.max(*last)))
    }

    fn numbers_path(&self, run: &str) -> Result<PathBuf> {
        Ok(self.root.layout.dir("runs").join(NUMBERS).join(file_name(run)?))
    }

    /// Returns the names of all runs, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let names = files::names(&self.root.layout.dir("runs"))?;
        Ok(names.into_iter().filter(|name| file_name(name).is_ok()).collect())
    }

    /// Returns the numbers of the runs of a name, in order.
    pub fn numbers(&self, run: &str) -> Result<Vec<u32>> {
        let names = files::names(&self.root.layout.run(run)?)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns the directory of a run, whether it exists or not.
    pub fn dir(&self, run: &str, number: u32) -> Result<RunDir> {
        let path = self.root.layout.run(run)?.join(number.to_string());
        Ok(RunDir { run: run.to_owned(), number, path })
    }

    /// Returns the directories of all runs, by name, then by number.
    pub fn all(&self) -> Result<Vec<RunDir>> {
        let mut dirs = Vec::new();
        for name in self.names()? {
            for number in self.numbers(&name)? {
                dirs.push(self.dir(&name, number)?);
            }
        }
        Ok(dirs)
    }
}

/// Parses the name of a run's directory: `3`, but not `03`.
pub(super) fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == name)
}
