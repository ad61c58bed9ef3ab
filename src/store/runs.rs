//! The history of runs, `runs/<run>/.history/`: a folder a run.
//!
//! ```text
//! runs/<run>/.history/0003/  events.jsonl, and run.lock when it ended
//! runs/<run>/events.jsonl    link to that of the newest run
//! runs/<run>/run.lock        link to that of the newest run that ended
//! ```

use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::{Damage, Fault, Object, Result, StoreError};
use super::layout::file_name;
use super::lock::remove_folder;
use super::names::names_if_folder;
use super::{Lease, Store, failpoint, write};

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

pub(super) const HISTORY: &str = ".history";

impl Store {
    /// A new folder `runs/<run>/.history/<number>/`, for a run that starts now, and its lease. The lease is there before the
    /// folder: a folder without a lock file and without a lease is of a run that was stopped.
    ///
    /// # Errors
    /// When the name cannot be a file name or the folder cannot be made; as [`Store::lease`].
    pub fn start_run(&self, run: &str) -> Result<OpenRun> {
        self.writable()?;
        let history = self.layout().run(run)?.join(HISTORY);
        write::make_folder(&history)?;
        let mut number = self.run_numbers(run)?.last().map_or(1, |last| last + 1);
        loop {
            let folder = RunFolder { run: run.to_owned(), number, path: history.join(format!("{number:04}")) };
            let lease = self.lease(&folder.to_string())?;
            failpoint::pass("history-before-folder");
            match fs::create_dir(&folder.path) {
                Ok(()) => {
                    failpoint::pass("history-after-folder");
                    return Ok(OpenRun { folder, lease });
                }
                // Another process started a run of that name meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io("make", &folder.path)(error)),
            }
        }
    }

    /// Makes `runs/<run>/<name>` a link to the file of that name in a run's folder, unless that of a later run is shown.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn show_newest(&self, folder: &RunFolder, name: &str) -> Result<()> {
        self.writable()?;
        let link = self.layout().run(&folder.run)?.join(name);
        let number = |target: PathBuf| target.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
        let shown = fs::read_link(&link).ok().and_then(number);
        if shown.is_some_and(|shown| shown > folder.number) && link.exists() {
            return Ok(());
        }
        let fresh = self.layout().folder("tmp").join(format!("{}.{}.{name}", folder.run, std::process::id()));
        let _ = fs::remove_file(&fresh);
        symlink(Self::shown(folder, name), &fresh).map_err(StoreError::io("write", &fresh))?;
        failpoint::pass("show-before-rename");
        match fs::rename(&fresh, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => {
                write::move_aside(&link, &self.layout().folder("damaged"))?;
                fs::rename(&fresh, &link)
            }
            renamed => renamed,
        }
        .map_err(StoreError::io("write", &link))
    }

    /// Where the link to a file of a run's folder leads.
    fn shown(folder: &RunFolder, name: &str) -> PathBuf {
        Path::new(HISTORY).join(format!("{:04}", folder.number)).join(name)
    }

    /// Writes a file of a run's folder, such as `run.lock`, and shows it as the newest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_run_file(&self, folder: &RunFolder, name: &str, text: &str) -> Result<()> {
        self.writable()?;
        failpoint::pass("lock-before-write");
        write::replace(&self.layout().folder("tmp"), &folder.path.join(name), text.as_bytes(), 0o644)?;
        self.show_newest(folder, name)
    }

    /// Removes the folder of a past run: its events and its lock. What the stages gave is no matter of it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_run(&self, folder: &RunFolder) -> Result<()> {
        self.writable()?;
        // What is shown of it goes first: a link leads somewhere.
        for name in names_if_folder(&folder.path)? {
            let link = self.layout().run(&folder.run)?.join(&name);
            if fs::read_link(&link).is_ok_and(|target| target == Self::shown(folder, &name)) {
                fs::remove_file(&link).map_err(StoreError::io("remove", &link))?;
            }
        }
        failpoint::pass("forget-before-remove");
        remove_folder(&folder.path)
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
        let mut numbers: Vec<u32> = names_if_folder(&self.layout().run(run)?.join(HISTORY))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The folder of a run.
    ///
    /// # Errors
    /// When the name cannot be a file name.
    pub fn run_folder(&self, run: &str, number: u32) -> Result<RunFolder> {
        let path = self.layout().run(run)?.join(HISTORY).join(format!("{number:04}"));
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
