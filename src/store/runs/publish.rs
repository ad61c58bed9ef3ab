//! Outputs by name, for people and other programs: `runs/<run>/<n>/<stage>/<port>` links to `published/<aa>/<tree>/`, which contains the
//! files of a tree by name as links to blobs.
//!
//! A tree is published once, however many runs contain it. All links are relative, so that a store can be moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use contract::{Digest, Tree, TreeEntry};

use super::{RunDir, Runs};
use crate::store::layout::object;
use crate::store::{LastBuild, Result, SourceSnapshot, StoreError, failpoint, file_name, files};

impl Runs {
    /// Publishes what a stage of a run built: its outputs by name, and then its last build ([`crate::store::Builds::last_build`]).
    /// The last build is also written if the outputs cannot be published.
    pub fn publish(
        &self,
        run: &RunDir,
        stage: &str,
        build: LastBuild,
        sources: &SourceSnapshot,
        outputs: &BTreeMap<String, Tree>,
    ) -> Result<()> {
        self.root.check_writable()?;
        let published = self.publish_outputs(&run.path.join(file_name(stage)?), outputs);
        self.builds.write_last_build(&run.run, stage, build, sources)?;
        published
    }

    /// Creates a link to each tree in the directory of a stage.
    fn publish_outputs(&self, dir: &Path, outputs: &BTreeMap<String, Tree>) -> Result<()> {
        outputs.values().try_for_each(|tree| self.publish_tree(tree))?;
        if !outputs.is_empty() {
            match fs::create_dir(dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("create", dir)(error));
                }
                _ => {}
            }
        }
        for (port, tree) in outputs {
            let (link, target) = (dir.join(file_name(port)?), to_tree(tree.digest()));
            failpoint::pass("publish-before-link");
            self.link(&link, &target)?;
        }
        Ok(())
    }

    /// Creates the links of a tree that are missing or point elsewhere. No run links to the tree before they are complete.
    fn publish_tree(&self, tree: &Tree) -> Result<()> {
        let dir = self.root.layout.published(tree.digest());
        let found = dir.symlink_metadata();
        if !found.as_ref().is_ok_and(fs::Metadata::is_dir) {
            if found.is_ok() {
                files::remove(&dir)?;
            }
            fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        }
        for entry in tree.entries() {
            let (link, target) = (entry.path.below(&dir), to_blob(entry));
            if leads_to(&link, &target) {
                continue;
            }
            failpoint::pass("publish-before-file");
            let parent = link.parent().unwrap_or(&dir);
            fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
            self.link(&link, &target)?;
        }
        Ok(())
    }

    /// Creates a link, or replaces what is in its place and points elsewhere.
    fn link(&self, link: &Path, target: &str) -> Result<()> {
        match symlink(target, link) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if leads_to(link, target) {
                    Ok(())
                } else {
                    files::replace_link(&self.root.layout.tmp(), target, link)
                }
            }
            made => made.map_err(StoreError::io("write", link)),
        }
    }

    /// Returns the trees that a run's outputs by name link to.
    pub fn published_trees(&self, run: &RunDir) -> Result<BTreeSet<Digest>> {
        let mut trees = BTreeSet::new();
        for stage in files::names(&run.path)? {
            let dir = run.path.join(&stage);
            for port in files::names(&dir)? {
                let target = fs::read_link(dir.join(port)).ok();
                trees.extend(target.and_then(|target| target.file_name()?.to_str()?.parse::<Digest>().ok()));
            }
        }
        Ok(trees)
    }

    /// Returns the stages with outputs in a run's directory.
    pub fn published_stages(&self, run: &RunDir) -> Result<Vec<String>> {
        let mut names = files::names(&run.path)?;
        names.retain(|name| run.path.join(name).is_dir());
        Ok(names)
    }
}

fn leads_to(link: &Path, target: &str) -> bool {
    fs::read_link(link).is_ok_and(|found| found.as_os_str() == target)
}

/// Returns the link target of a published tree, relative to the directory of a run's stage. Directories below the store: runs, run, number,
/// stage.
fn to_tree(digest: Digest) -> String {
    "../".repeat(4) + &object("published", digest)
}

/// Returns the link target of a blob, relative to the directory of a tree's file. Directories below the store: published, prefix, tree,
/// then those of the tree.
fn to_blob(entry: &TreeEntry) -> String {
    "../".repeat(3 + entry.path.as_str().matches('/').count()) + &object("blobs", entry.digest)
}
