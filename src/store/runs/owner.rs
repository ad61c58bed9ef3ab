//! The owner of a run name: the manifest that used it first.
//!
//! A manifest is identified by its path, and by its path relative to the store: a project that is moved with its store stays the owner, as
//! does a project of which only the store is moved.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Runs;
use crate::store::{Result, StoreError, files};

const FILE: &str = "project.json";

/// The content of the file that records the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// The path of the manifest.
    manifest: String,
    /// Its path relative to the store.
    from_store: String,
}

impl Runs {
    /// Returns the manifest that owns a run name; `None` if the name is new or has no owner.
    ///
    /// # Errors
    /// [`StoreError::OwnerUnknown`] if the file that names it cannot be read.
    pub fn owner(&self, run: &str) -> Result<Option<PathBuf>> {
        let present = |owner: Owner| {
            let moved = normal(&self.root.layout.root().join(&owner.from_store));
            let manifest = PathBuf::from(owner.manifest);
            if !manifest.exists() && moved.exists() { moved } else { manifest }
        };
        Ok(self.read_owner(run)?.map(present))
    }

    /// Returns whether another manifest owns a run name.
    pub fn has_other_owner(&self, run: &str, manifest: &Path) -> Result<bool> {
        let this = self.as_owner(manifest);
        let is_other = |owner: Owner| owner.manifest != this.manifest && owner.from_store != this.from_store;
        Ok(self.read_owner(run)?.is_some_and(is_other))
    }

    /// Returns the run names that a manifest owns, sorted, without those whose owner is unknown.
    pub fn of_manifest(&self, manifest: &Path) -> Result<Vec<String>> {
        let mut runs = Vec::new();
        for run in self.names()? {
            match self.read_owner(&run) {
                Ok(Some(_)) if !self.has_other_owner(&run, manifest)? => runs.push(run),
                Ok(_) | Err(StoreError::OwnerUnknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(runs)
    }

    /// Makes a manifest the owner of a run name.
    pub fn take_over(&self, run: &str, manifest: &Path) -> Result<()> {
        self.root.check_writable()?;
        let dir = self.root.layout.run(run)?;
        files::make_dir(&dir)?;
        self.root.replace(&dir.join(FILE), self.as_owner(manifest).encode()?.as_bytes())
    }

    /// Makes a manifest the owner of a run name that has none; [`StoreError::Owned`] if another manifest owns it.
    pub(super) fn claim(&self, run: &str, manifest: &Path) -> Result<()> {
        let this = self.as_owner(manifest);
        match self.read_owner(run)? {
            Some(owner) if owner == this => return Ok(()),
            Some(_) => {}
            None => {
                let path = self.root.layout.run(run)?.join(FILE);
                // Another process may be faster.
                if files::create(&self.root.layout.tmp(), &path, this.encode()?.as_bytes(), files::WRITABLE)? {
                    return Ok(());
                }
            }
        }
        if self.has_other_owner(run, manifest)? {
            return Err(self.owned_error(run)?);
        }
        // The project was moved with its store, or the store alone was moved.
        self.take_over(run, manifest)
    }

    /// Returns [`StoreError::Owned`] with the owner of a run name.
    pub fn owned_error(&self, run: &str) -> Result<StoreError> {
        Ok(StoreError::Owned { run: run.to_owned(), manifest: self.owner(run)?.unwrap_or_default() })
    }

    fn read_owner(&self, run: &str) -> Result<Option<Owner>> {
        let path = self.root.layout.run(run)?.join(FILE);
        let read = match files::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.and_then(|text| Ok(serde_json::from_str(&text)?)),
        };
        read.map(Some).map_err(|source| StoreError::OwnerUnknown { run: run.to_owned(), path, source })
    }

    fn as_owner(&self, manifest: &Path) -> Owner {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Owner { manifest: text(manifest), from_store: text(&relative(self.root.layout.root(), manifest)) }
    }
}

impl Owner {
    fn encode(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|error| StoreError::io("write", Path::new(FILE))(error.into()))
    }
}

/// Returns the relative path from a directory to a path, both absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

/// Resolves each `..` of a path lexically.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_leads_back_to_the_path() {
        for (from, to, path) in [
            ("/p/cache", "/p/m.toml", "../m.toml"),
            ("/p/cache", "/p/manifests/m.toml", "../manifests/m.toml"),
            ("/big/cache", "/home/me/m.toml", "../../home/me/m.toml"),
            ("/p", "/p/m.toml", "m.toml"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(path));
            assert_eq!(normal(&Path::new(from).join(path)), Path::new(to));
        }
    }
}
