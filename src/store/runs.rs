//! A run's folder, `runs/<run>/`: its events, what each stage gave last, and the outputs by name.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use contract::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Result, StoreError};
use super::layout::file_name;
use super::lock::remove_folder;
use super::{Store, write};

/// What a stage of a run gave last, for reasons and for `why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastBuild {
    /// Its key.
    pub key: Digest,
    /// The key written out, as the key's own type serialises it.
    pub key_record: Value,
    /// The digest of each output port's tree.
    pub outputs: BTreeMap<String, Digest>,
}

impl Store {
    /// `runs/<run>/events.jsonl`; the folder is made.
    ///
    /// # Errors
    /// When the name cannot be a file name or the folder cannot be made.
    pub fn events_path(&self, run: &str) -> Result<PathBuf> {
        self.writable()?;
        let folder = self.layout().run(run)?;
        write::make_folder(&folder)?;
        Ok(folder.join("events.jsonl"))
    }

    /// Writes down what a stage of a run gave, as `runs/<run>/.stages/<stage>.json`.
    ///
    /// # Errors
    /// When a name cannot be a file name or the file cannot be written.
    pub fn remember(&self, run: &str, stage: &str, build: &LastBuild) -> Result<()> {
        self.writable()?;
        let path = self.last_build_path(run, stage)?;
        if self.last_build(run, stage)?.as_ref() == Some(build) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            write::make_folder(folder)?;
        }
        let text = serde_json::to_string_pretty(build)
            .map_err(|error| StoreError::io("write", &path)(std::io::Error::other(error)))?;
        write::replace(&self.layout().folder("tmp"), &path, text.as_bytes(), 0o644)
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
        Ok(self.layout().run(run)?.join(".stages").join(format!("{}.json", file_name(stage)?)))
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
        remove_folder(&folder)?;
        match fs::rename(&fresh, &folder) {
            // Another process published the same stage meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => remove_folder(&fresh)?,
            renamed => renamed.map_err(StoreError::io("write", &folder))?,
        }
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
