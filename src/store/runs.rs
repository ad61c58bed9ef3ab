//! The runs of a store, `runs/<run>/`: a directory for each run of a name.
//!
//! ```text
//! runs/<run>/project.json     the manifest that the runs of this name belong to (`project`)
//! runs/<run>/3/               the third run: events.jsonl; report.html and run.lock when it has ended
//! runs/<run>/3/<stage>/<port> what its stages gave, by name (`published`)
//! runs/<run>/3/.pinned        it is not forgotten to make room
//! runs/<run>/latest           link to the newest run that gave all that was asked for
//! runs/<run>/.lock            locked while `latest` is read and switched
//! runs/.numbers/<run>         the last number of a name whose runs were forgotten: no two runs have the same number
//! ```

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::{Damage, Fault, Object, Result, StoreError};
use super::layout::file_name;
use super::lease::POLL;
use super::lock::remove_folder;
use super::names::names_if_folder;
use super::{Lease, Store, failpoint, text, write};

/// The folder of one run. It is shown, and named in its lease, as `quickstart.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    /// The run's name.
    pub run: String,
    /// Which run of that name: 1 is the first.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
}

impl fmt::Display for RunFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.run, self.number)
    }
}

/// A run under way.
#[derive(Debug)]
pub struct OpenRun {
    /// Its folder.
    pub folder: RunFolder,
    /// What it uses of the store, until what it gave is written down.
    pub lease: Lease,
}

/// The link to the newest run that gave all that was asked for.
pub(super) const LATEST: &str = "latest";
const PINNED: &str = ".pinned";
const LOCK: &str = ".lock";
/// In `runs/`: the last numbers of names whose runs were forgotten.
const NUMBERS: &str = ".numbers";

impl Store {
    /// A new folder `runs/<run>/<number>/`, for a run of this manifest that starts now, and its lease. The lease is there
    /// before the folder: a folder without a lock file and without a lease is of a run that was stopped. All of it happens
    /// under the gate, so that no runs of that name are forgotten meanwhile.
    ///
    /// # Errors
    /// When the runs of that name belong to another manifest, the name cannot be a file name, or the folder cannot be made;
    /// as [`Store::lease`].
    pub fn start_run(&self, run: &str, manifest: &Path) -> Result<OpenRun> {
        let gate = self.gate_to_write()?;
        let runs = self.layout().run(run)?;
        write::make_folder(&runs)?;
        self.own_run(run, manifest)?;
        let mut number = self.last_number(run)? + 1;
        loop {
            let folder = self.run_folder(run, number)?;
            let lease = self.lease_under(&gate, &folder.to_string())?;
            failpoint::pass("run-before-folder");
            match fs::create_dir(&folder.path) {
                Ok(()) => {
                    failpoint::pass("run-after-folder");
                    return Ok(OpenRun { folder, lease });
                }
                // Another process started a run of that name meanwhile.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io("make", &folder.path)(error)),
            }
        }
    }

    /// Writes the file of a run's folder that says that it has ended, and what it gave: its lock.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_lock(&self, folder: &RunFolder, name: &str, text: &str) -> Result<()> {
        self.writable()?;
        failpoint::pass("lock-before-write");
        write::replace(&self.layout().folder("tmp"), &folder.path.join(name), text.as_bytes(), 0o644)
    }

    /// Makes `runs/<run>/latest` lead to this run, in one step, unless it leads to a later one, or `replaces` returns false
    /// for the run to which it leads. A lock covers both: runs of a name that end at the same time do this one by one.
    ///
    /// # Errors
    /// When it cannot be written; what `replaces` returns.
    pub fn make_latest(
        &self,
        folder: &RunFolder,
        replaces: impl FnOnce(Option<&RunFolder>) -> Result<bool>,
    ) -> Result<()> {
        self.writable()?;
        let link = self.layout().run(&folder.run)?.join(LATEST);
        // Not the gate: a run may end while room is made. Its lease keeps its name from being forgotten.
        let _lock = self.wait_for(&link.with_file_name(LOCK))?;
        let latest = self.latest(&folder.run)?;
        if latest.as_ref().is_some_and(|latest| latest.number >= folder.number) || !replaces(latest.as_ref())? {
            return Ok(());
        }
        let fresh = self.layout().folder("tmp").join(format!("{}.{}.latest", folder.run, std::process::id()));
        let _ = fs::remove_file(&fresh);
        symlink(folder.number.to_string(), &fresh).map_err(StoreError::io("write", &fresh))?;
        failpoint::pass("latest-before-rename");
        match fs::rename(&fresh, &link) {
            Err(error) if error.kind() == ErrorKind::IsADirectory => {
                write::move_aside(&link, &self.layout().folder("damaged"))?;
                fs::rename(&fresh, &link)
            }
            renamed => renamed,
        }
        .map_err(StoreError::io("write", &link))
    }

    /// Locks a file, which is made where there is none.
    fn wait_for(&self, path: &Path) -> Result<File> {
        let open = || text::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::IsADirectory || text::is_link(&error) => {
                write::move_aside(path, &self.layout().folder("damaged"))?;
                open()
            }
            opened => opened,
        };
        let file = file.map_err(StoreError::io("lock", path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path)(error)),
            }
        }
    }

    /// The run to which `runs/<run>/latest` leads, if it is there.
    ///
    /// # Errors
    /// When the name cannot be a file name.
    pub fn latest(&self, run: &str) -> Result<Option<RunFolder>> {
        let target = fs::read_link(self.layout().run(run)?.join(LATEST)).ok();
        let number = target.and_then(|target| target.to_str()?.parse().ok());
        let folder = number.map(|number| self.run_folder(run, number)).transpose()?;
        Ok(folder.filter(|folder| folder.path.is_dir()))
    }

    /// Keeps a run from being forgotten to make room, or no longer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn pin_run(&self, folder: &RunFolder, pinned: bool) -> Result<()> {
        self.writable()?;
        let path = folder.path.join(PINNED);
        match pinned {
            true => write::replace(&self.layout().folder("tmp"), &path, b"", 0o644),
            false => match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
                _ => Ok(()),
            },
        }
    }

    /// Whether a run is pinned.
    pub fn is_pinned(&self, folder: &RunFolder) -> bool {
        folder.path.join(PINNED).symlink_metadata().is_ok()
    }

    /// Removes the folder of a past run: its events, its lock, its outputs by name. What its stages gave stays until room is
    /// made, and what they gave last is remembered.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_run(&self, folder: &RunFolder) -> Result<()> {
        self.writable()?;
        // What leads to it goes first: a link leads somewhere.
        let link = self.layout().run(&folder.run)?.join(LATEST);
        let lock = self.wait_for(&link.with_file_name(LOCK))?;
        if self.latest(&folder.run)?.is_some_and(|latest| latest.number == folder.number) {
            fs::remove_file(&link).map_err(StoreError::io("remove", &link))?;
        }
        drop(lock);
        failpoint::pass("forget-before-remove");
        remove_folder(&folder.path)
    }

    /// Forgets all runs of a name, the last outputs of their stages, and the owner of the name. Their numbers are not used
    /// again: a link to the page of such a run is dead rather than a link to another run.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn forget_runs(&self, run: &str) -> Result<()> {
        self.writable()?;
        let path = self.numbers(run)?;
        if let Some(numbers) = path.parent() {
            write::make_folder(numbers)?;
        }
        let last = self.last_number(run)?;
        write::replace(&self.layout().folder("tmp"), &path, format!("{last}\n").as_bytes(), 0o644)?;
        remove_folder(&self.layout().run(run)?)
    }

    /// The highest number that a run of a name has, or had before all of them were forgotten; 0 where there was none.
    fn last_number(&self, run: &str) -> Result<u32> {
        let path = self.numbers(run)?;
        let forgotten = match text::read(&path) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => 0,
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        Ok(self.run_numbers(run)?.last().map_or(forgotten, |last| forgotten.max(*last)))
    }

    fn numbers(&self, run: &str) -> Result<PathBuf> {
        Ok(self.layout().folder("runs").join(NUMBERS).join(file_name(run)?))
    }

    /// The names of all runs, sorted.
    ///
    /// # Errors
    /// When the folder of runs cannot be read.
    pub fn run_names(&self) -> Result<Vec<String>> {
        let names = names_if_folder(&self.layout().folder("runs"))?;
        Ok(names.into_iter().filter(|name| file_name(name).is_ok()).collect())
    }

    /// The numbers of the runs of a name, from the oldest.
    ///
    /// # Errors
    /// When the name cannot be a file name or the folder cannot be read.
    pub fn run_numbers(&self, run: &str) -> Result<Vec<u32>> {
        let names = names_if_folder(&self.layout().run(run)?)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The folder of a run.
    ///
    /// # Errors
    /// When the name cannot be a file name.
    pub fn run_folder(&self, run: &str, number: u32) -> Result<RunFolder> {
        let path = self.layout().run(run)?.join(number.to_string());
        Ok(RunFolder { run: run.to_owned(), number, path })
    }

    /// The folders of all runs, by name, from the oldest of each.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn run_folders(&self) -> Result<Vec<RunFolder>> {
        let mut folders = Vec::new();
        for name in self.run_names()? {
            for number in self.run_numbers(&name)? {
                folders.push(self.run_folder(&name, number)?);
            }
        }
        Ok(folders)
    }

    /// What is wrong with a file that tells of a run; it is moved aside where the store may be written.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn damaged_file(&self, path: &Path, problem: String) -> Result<Damage> {
        self.damaged(Object::File(path.to_owned()), Fault::Format(problem), path)
    }
}

/// The number that a folder's name is, as it is written: `3`, not `03`.
pub(super) fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number: &u32| *number > 0 && number.to_string() == name)
}
