//! Outputs by name, for people and other programs: `runs/<run>/<n>/<stage>/<port>`, a link to `published/<aa>/<tree>/`, which
//! holds the files of a tree by name as links to blobs.
//!
//! A tree is published once, however many runs have it: a run in which nothing changed makes one link a port. All links are
//! relative, so that a moved store keeps its names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use contract::{Digest, Tree, TreeEntry};

use super::error::{Result, StoreError};
use super::last_builds::LastBuild;
use super::layout::{Layout, file_name};
use super::lock::remove_folder;
use super::names::names_if_folder;
use super::{RunFolder, SourceSnapshot, Store, failpoint, write};

/// How often another process may be quicker.
const TRIES: usize = 100;

impl Store {
    /// Shows what a stage of a run gave: its outputs by name, and then, for `why` and as what is not removed to make room,
    /// what they are ([`Store::last_build`]).
    ///
    /// # Errors
    /// When a name cannot be a file name, a tree is damaged, or a link or a file cannot be made.
    pub fn show(
        &self,
        run: &RunFolder,
        stage: &str,
        build: LastBuild,
        sources: &SourceSnapshot,
        outputs: &BTreeMap<String, Tree>,
    ) -> Result<()> {
        self.writable()?;
        let remembered = self.remembered(&run.run, stage, build, sources)?;
        let shown = self.publish(&run.path.join(file_name(stage)?), outputs);
        // What cannot be shown is still what the stage gave last, and stays in the store as that.
        remembered.keep(self)?;
        shown
    }

    /// Makes a link to each tree in the folder of a stage.
    fn publish(&self, folder: &Path, outputs: &BTreeMap<String, Tree>) -> Result<()> {
        if outputs.is_empty() {
            return Ok(());
        }
        outputs.values().try_for_each(|tree| self.publish_tree(tree))?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(StoreError::io("make", folder)(error));
            }
            _ => {}
        }
        for (port, tree) in outputs {
            let (name, target) = (folder.join(file_name(port)?), to_tree(tree.digest()));
            failpoint::pass("show-before-link");
            match symlink(&target, &name) {
                // A stage is shown once a run, unless another stage of the run built its key meanwhile.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && leads(&name, &target) => Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    remove_folder(&name)?;
                    symlink(&target, &name)
                }
                made => made,
            }
            .map_err(StoreError::io("write", &name))?;
        }
        Ok(())
    }

    /// Publishes a tree, where it is not published whole.
    fn publish_tree(&self, tree: &Tree) -> Result<()> {
        let folder = self.layout().published(tree.digest());
        if is_published(&folder, tree) {
            return Ok(());
        }
        let temporary = self.layout().folder("tmp");
        let place = tempfile::Builder::new().prefix("publish.").tempdir_in(&temporary);
        let place = place.map_err(StoreError::io("write", &temporary))?;
        let (fresh, old) = (place.path().join("new"), place.path().join("old"));
        fs::create_dir(&fresh).map_err(StoreError::io("make", &fresh))?;
        failpoint::pass("publish-before-links");
        for entry in tree.entries() {
            let name = entry.path.below(&fresh);
            if let Some(above) = name.parent() {
                fs::create_dir_all(above).map_err(StoreError::io("make", above))?;
            }
            symlink(to_blob(entry), &name).map_err(StoreError::io("write", &name))?;
        }
        if let Some(shelf) = folder.parent() {
            write::make_folder(shelf)?;
        }
        let mut tries = 0;
        loop {
            failpoint::pass("publish-before-remove");
            // Out of the way as a whole: what others look into, or publish at the same time, cannot be removed where it is.
            remove_folder(&old)?;
            match fs::rename(&folder, &old) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("move", &folder)(error));
                }
                _ => {}
            }
            failpoint::pass("publish-before-rename");
            match fs::rename(&fresh, &folder) {
                // Another process published the same tree in between.
                Err(error) if is_taken(&error) && tries < TRIES => tries += 1,
                renamed => {
                    renamed.map_err(StoreError::io("write", &folder))?;
                    failpoint::pass("publish-after-rename");
                    return Ok(());
                }
            }
        }
    }

    /// The trees to which a run's outputs by name lead.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn shown_trees(&self, run: &RunFolder) -> Result<BTreeSet<Digest>> {
        let mut trees = BTreeSet::new();
        for stage in names_if_folder(&run.path)? {
            let folder = run.path.join(&stage);
            for port in names_if_folder(&folder)? {
                let target = fs::read_link(folder.join(port)).ok();
                trees.extend(target.and_then(|target| target.file_name()?.to_str()?.parse::<Digest>().ok()));
            }
        }
        Ok(trees)
    }

    /// The stages whose outputs a run shows.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn shown_stages(&self, run: &RunFolder) -> Result<Vec<String>> {
        let mut names = names_if_folder(&run.path)?;
        names.retain(|name| run.path.join(name).is_dir());
        Ok(names)
    }

    /// Removes a tree's files by name.
    pub(super) fn unpublish(&self, tree: Digest) -> Result<()> {
        remove_folder(&self.layout().published(tree))
    }
}

/// Whether each file of the tree is there, as a link to its blob.
fn is_published(folder: &Path, tree: &Tree) -> bool {
    let entries = tree.entries();
    let whole = entries.iter().all(|entry| leads(&entry.path.below(folder), &to_blob(entry)));
    whole && (!entries.is_empty() || folder.is_dir())
}

fn leads(name: &Path, target: &str) -> bool {
    fs::read_link(name).is_ok_and(|link| link.as_os_str() == target)
}

/// From the folder of a run's stage to a published tree. Below the store: runs, run, number, stage.
fn to_tree(digest: Digest) -> String {
    "../".repeat(4) + &Layout::published_name(digest)
}

/// From the folder of a tree's file to its blob. Below the store: published, shelf, tree, then the folders of the tree.
fn to_blob(entry: &TreeEntry) -> String {
    "../".repeat(3 + entry.path.as_str().matches('/').count()) + &Layout::blob_name(entry.digest)
}

/// Whether a folder that is not empty was in the way of a rename (some file systems say that it exists).
fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}
