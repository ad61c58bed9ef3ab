//! A run's folder, `runs/<run>/`: the history of the runs of that name, what each stage gave last, and the outputs by
//! name.
//!
//! ```text
//! .history/0003/        one folder a run: events.jsonl, and run.lock when it ended
//! events.jsonl          link to that of the newest run
//! run.lock              link to that of the newest run that ended
//! .stages/<stage>.json  what the stage gave last
//! <stage>/<port>/       its output by name
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use contract::{Digest, SourceFile};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Damage, Fault, Object, Result, StoreError};
use super::layout::file_name;
use super::lock::remove_folder;
use super::names::names_if_folder;
use super::{SourceSnapshot, Store, failpoint, write};

/// What a stage of a run gave last, for reasons and for `why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastBuild {
    /// Its key.
    pub key: Digest,
    /// The key written out, as the key's own type serialises it.
    pub key_record: Value,
    /// The digest of each output port's tree.
    pub outputs: BTreeMap<String, Digest>,
    /// Where it looked for files outside the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
}

/// The folder of one run. It is shown as `quickstart.3`.
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

const HISTORY: &str = ".history";
const STAGES: &str = ".stages";
const SOURCES: &str = "sources";

impl Store {
    /// A new folder `runs/<run>/.history/<number>/`, for a run that starts now.
    ///
    /// # Errors
    /// When the name cannot be a file name or the folder cannot be made.
    pub fn start_run(&self, run: &str) -> Result<RunFolder> {
        self.writable()?;
        let history = self.layout().run(run)?.join(HISTORY);
        write::make_folder(&history)?;
        let mut number = self.run_numbers(run)?.last().map_or(1, |last| last + 1);
        loop {
            let folder = RunFolder { run: run.to_owned(), number, path: history.join(format!("{number:04}")) };
            failpoint::pass("history-before-folder");
            match fs::create_dir(&folder.path) {
                Ok(()) => {
                    failpoint::pass("history-after-folder");
                    return Ok(folder);
                }
                // Another process started a run of that name meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(StoreError::io("make", &folder.path)(error)),
            }
        }
    }

    /// Makes `runs/<run>/<name>` a link to the file of that name in a run's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn show_newest(&self, folder: &RunFolder, name: &str) -> Result<()> {
        self.writable()?;
        let link = self.layout().run(&folder.run)?.join(name);
        let fresh = self.layout().folder("tmp").join(format!("{}.{}.{name}", folder.run, std::process::id()));
        let _ = fs::remove_file(&fresh);
        let target = Path::new(HISTORY).join(format!("{:04}", folder.number)).join(name);
        symlink(target, &fresh).map_err(StoreError::io("write", &fresh))?;
        failpoint::pass("show-before-rename");
        fs::rename(&fresh, &link).map_err(StoreError::io("write", &link))
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

    /// The files of what stages gave last that cannot be read; they are moved aside where the store may be written.
    ///
    /// # Errors
    /// When a folder cannot be read, or a file not moved.
    pub fn torn_last_builds(&self) -> Result<Vec<Damage>> {
        let mut torn = Vec::new();
        for run in self.run_names()? {
            let folder = self.layout().run(&run)?.join(STAGES);
            let files = names_if_folder(&folder)?;
            for path in files.iter().filter(|name| name.ends_with(".json")).map(|name| folder.join(name)) {
                let text = fs::read(&path).map_err(|error| error.to_string());
                let build =
                    text.and_then(|text| serde_json::from_slice::<LastBuild>(&text).map_err(|error| error.to_string()));
                if let Err(problem) = build {
                    torn.push(self.damaged_file(&path, problem)?);
                }
            }
        }
        Ok(torn)
    }

    /// What each stage of a run gave last, by stage.
    ///
    /// # Errors
    /// When the name cannot be a file name or the folder cannot be read.
    pub fn last_builds(&self, run: &str) -> Result<BTreeMap<String, LastBuild>> {
        let files = names_if_folder(&self.layout().run(run)?.join(STAGES))?;
        let stages = files.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(stages.filter_map(|stage| Some((stage.to_owned(), self.last_build(run, stage).ok()??))).collect())
    }

    /// Writes down what a stage of a run gave, as `runs/<run>/.stages/<stage>.json`, and of which files outside the store,
    /// as `<stage>.sources` beside it.
    ///
    /// # Errors
    /// When a name cannot be a file name or a file cannot be written.
    pub fn remember(&self, run: &str, stage: &str, build: &LastBuild, sources: &SourceSnapshot) -> Result<()> {
        self.writable()?;
        let path = self.last_build_path(run, stage)?;
        if self.last_build(run, stage)?.as_ref() == Some(build) {
            return Ok(());
        }
        failpoint::pass("remember-before-write");
        if let Some(folder) = path.parent() {
            write::make_folder(folder)?;
        }
        let temporary = self.layout().folder("tmp");
        let sources = sources.files();
        if !sources.is_empty() {
            let text = sources.iter().fold(String::new(), |text, file| text + &file.line() + "\n");
            write::replace(&temporary, &path.with_extension(SOURCES), text.as_bytes(), 0o644)?;
        }
        let text = serde_json::to_string_pretty(build)
            .map_err(|error| StoreError::io("write", &path)(std::io::Error::other(error)))?;
        write::replace(&temporary, &path, text.as_bytes(), 0o644)
    }

    /// The files outside the store that a stage of a run read last; lines that cannot be read are passed over.
    ///
    /// # Errors
    /// When a name cannot be a file name.
    pub fn last_sources(&self, run: &str, stage: &str) -> Result<Vec<SourceFile>> {
        let text = fs::read_to_string(self.last_build_path(run, stage)?.with_extension(SOURCES)).unwrap_or_default();
        Ok(text.lines().filter_map(SourceFile::of_line).collect())
    }

    /// What a stage of a run gave last, if anything; a file that cannot be read counts as nothing.
    ///
    /// # Errors
    /// When a name cannot be a file name.
    pub fn last_build(&self, run: &str, stage: &str) -> Result<Option<LastBuild>> {
        let path = self.last_build_path(run, stage)?;
        Ok(fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()))
    }

    fn last_build_path(&self, run: &str, stage: &str) -> Result<PathBuf> {
        Ok(self.layout().run(run)?.join(STAGES).join(format!("{}.json", file_name(stage)?)))
    }

    /// Shows a stage's outputs by name: `runs/<run>/<stage>/<port>/` with a relative link to the blob of each file, and
    /// beside it `.<port>.tree`, a link to the tree that says which one is shown. The folder of the stage.
    ///
    /// # Errors
    /// When a name cannot be a file name, a tree is damaged, or a link cannot be made.
    pub fn publish(&self, run: &str, stage: &str, outputs: &BTreeMap<String, Digest>) -> Result<PathBuf> {
        self.writable()?;
        let folder = self.layout().run(run)?.join(file_name(stage)?);
        // Two entries a port: a stage that lost a port is published anew.
        let entries = fs::read_dir(&folder).map_or(0, Iterator::count);
        if entries == 2 * outputs.len() && outputs.iter().all(|(port, tree)| self.is_published(&folder, port, *tree)) {
            return Ok(folder);
        }
        let fresh = self.layout().folder("tmp").join(format!("{run}.{stage}.{}", std::process::id()));
        remove_folder(&fresh)?;
        failpoint::pass("publish-before-links");
        for (port, digest) in outputs {
            let place = fresh.join(file_name(port)?);
            fs::create_dir_all(&place).map_err(StoreError::io("make", &place))?;
            link(&self.layout().tree(*digest), &fresh.join(mark(port)), self.layout().root(), 3)?;
            for entry in self.listing(*digest)?.entries() {
                let name = entry.path.below(&place);
                if let Some(above) = name.parent() {
                    fs::create_dir_all(above).map_err(StoreError::io("make", above))?;
                }
                // Below the store: runs, run, stage, port, then the folders of the tree.
                let depth = 4 + entry.path.as_str().matches('/').count();
                link(&self.layout().blob(entry.digest), &name, self.layout().root(), depth)?;
            }
        }
        if let Some(run) = folder.parent() {
            write::make_folder(run)?;
        }
        failpoint::pass("publish-before-remove");
        remove_folder(&folder)?;
        failpoint::pass("publish-before-rename");
        match fs::rename(&fresh, &folder) {
            // Another process published the same stage meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => remove_folder(&fresh)?,
            renamed => renamed.map_err(StoreError::io("write", &folder))?,
        }
        failpoint::pass("publish-after-rename");
        Ok(folder)
    }

    fn is_published(&self, folder: &Path, port: &str, tree: Digest) -> bool {
        let tree = self.layout().tree(tree);
        let link = fs::read_link(folder.join(mark(port)));
        link.is_ok_and(|link| link.file_name() == tree.file_name())
    }
}

fn mark(port: &str) -> String {
    format!(".{port}.tree")
}

/// A link at `name`, which will lie `depth` folders below `root`, to `target` in the store.
fn link(target: &Path, name: &Path, root: &Path, depth: usize) -> Result<()> {
    let below = target.strip_prefix(root).unwrap_or(target);
    let up: PathBuf = std::iter::repeat_n("..", depth).collect();
    symlink(up.join(below), name).map_err(StoreError::io("write", name))
}
