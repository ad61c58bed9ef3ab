//! Outputs by name, `runs/<run>/<stage>/<port>/`: links to blobs, for people.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use contract::{Digest, Tree, TreeEntry};

use super::error::{Result, StoreError};
use super::last_builds::LastBuild;
use super::layout::{Layout, file_name};
use super::lock::remove_folder;
use super::{SourceSnapshot, Store, failpoint, write};

/// How often another process may be quicker.
const TRIES: usize = 100;

impl Store {
    /// Shows what a stage of a run gave: its outputs by name, and then, for `why` and as what is not removed to make room,
    /// what they are ([`Store::last_build`]). Where all of that is so already nothing is written.
    ///
    /// # Errors
    /// When a name cannot be a file name, a tree is damaged, or a link or a file cannot be made.
    pub fn show(
        &self,
        run: &str,
        stage: &str,
        build: LastBuild,
        sources: &SourceSnapshot,
        outputs: &BTreeMap<String, Tree>,
    ) -> Result<()> {
        self.writable()?;
        let remembered = self.remembered(run, stage, build, sources)?;
        let folder = self.layout().run(run)?.join(file_name(stage)?);
        // The folder is not listed: a port that a run beside this one showed last may stay in it until the key changes.
        if remembered.is_kept() && outputs.iter().all(|(port, tree)| self.is_published(&folder, port, tree)) {
            return Ok(());
        }
        let published = self.publish(&folder, &format!("{run}.{stage}."), outputs);
        // What cannot be shown is still what the stage gave last, and stays in the store as that.
        remembered.keep(self)?;
        published
    }

    /// Shows a stage's outputs by name in its folder `runs/<run>/<stage>`: `<port>/` with a relative link to the blob of each
    /// file, and beside it `.<port>.tree`, a link to the tree that says which one is shown. A temporary folder's name begins
    /// with `prefix`.
    fn publish(&self, folder: &Path, prefix: &str, outputs: &BTreeMap<String, Tree>) -> Result<()> {
        // Two entries a port: a stage that lost a port is published anew.
        let entries = fs::read_dir(folder).map_or(0, Iterator::count);
        if entries == 2 * outputs.len() && outputs.iter().all(|(port, tree)| self.is_published(folder, port, tree)) {
            return Ok(());
        }
        let temporary = self.layout().folder("tmp");
        let place = tempfile::Builder::new().prefix(prefix).tempdir_in(&temporary);
        let place = place.map_err(StoreError::io("write", &temporary))?;
        let (fresh, old) = (place.path().join("new"), place.path().join("old"));
        fs::create_dir(&fresh).map_err(StoreError::io("make", &fresh))?;
        failpoint::pass("publish-before-links");
        for (port, tree) in outputs {
            let place = fresh.join(file_name(port)?);
            fs::create_dir_all(&place).map_err(StoreError::io("make", &place))?;
            symlink_at(&fresh.join(mark(port)), &to_tree(tree.digest()))?;
            for entry in tree.entries() {
                let name = entry.path.below(&place);
                if let Some(above) = name.parent() {
                    fs::create_dir_all(above).map_err(StoreError::io("make", above))?;
                }
                symlink_at(&name, &to_blob(entry))?;
            }
        }
        if let Some(run) = folder.parent() {
            write::make_folder(run)?;
        }
        let mut tries = 0;
        loop {
            failpoint::pass("publish-before-remove");
            // Out of the way as a whole: what others look into, or publish at the same time, cannot be removed where it is.
            remove_folder(&old)?;
            match fs::rename(folder, &old) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io("move", folder)(error));
                }
                _ => {}
            }
            failpoint::pass("publish-before-rename");
            match fs::rename(&fresh, folder) {
                // Another process published the same stage in between: the last one is shown.
                Err(error) if is_taken(&error) && tries < TRIES => tries += 1,
                renamed => {
                    renamed.map_err(StoreError::io("write", folder))?;
                    failpoint::pass("publish-after-rename");
                    return Ok(());
                }
            }
        }
    }

    /// Whether each file of the tree is shown, as a link to its blob.
    fn is_published(&self, folder: &Path, port: &str, tree: &Tree) -> bool {
        let leads = |name: &Path, target: &str| fs::read_link(name).is_ok_and(|link| link.as_os_str() == target);
        let place = folder.join(port);
        leads(&folder.join(mark(port)), &to_tree(tree.digest()))
            && tree.entries().iter().all(|entry| leads(&entry.path.below(&place), &to_blob(entry)))
    }
}

/// From a stage's folder to a tree. Below the store: runs, run, stage.
fn to_tree(digest: Digest) -> String {
    "../".repeat(3) + &Layout::tree_name(digest)
}

/// From the folder of a port's file to its blob. Below the store: runs, run, stage, port, then the folders of the tree.
fn to_blob(entry: &TreeEntry) -> String {
    "../".repeat(4 + entry.path.as_str().matches('/').count()) + &Layout::blob_name(entry.digest)
}

/// Whether a folder that is not empty was in the way of a rename (some file systems say that it exists).
fn is_taken(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists)
}

fn mark(port: &str) -> String {
    format!(".{port}.tree")
}

fn symlink_at(name: &Path, target: &str) -> Result<()> {
    symlink(target, name).map_err(StoreError::io("write", name))
}
