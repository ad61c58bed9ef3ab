//! Whose the runs of a name are: a name belongs to the manifest that used it first.
//!
//! Two projects with the default name in one store would otherwise take each other's last outputs for their own. The manifest
//! is known by its path, and by its path from the store: a project that is moved with its store stays the owner, and so it
//! does when the store alone is moved. One that was moved without its store takes its name over ([`Store::take_over_run`]).

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};
use super::{Store, text, write};

const FILE: &str = "project.json";

/// A manifest, as a store remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// Its path.
    manifest: String,
    /// The same from the store.
    from_store: String,
}

impl Store {
    /// The manifest that the runs of a name belong to; `None` where there is no such name, or it has no owner.
    ///
    /// # Errors
    /// When the name cannot be a file name; [`StoreError::OwnerUnknown`] when the file that says it cannot be read.
    pub fn owner_of_run(&self, run: &str) -> Result<Option<PathBuf>> {
        let owner = self.owner(run)?;
        // What was moved with the store is where it is seen from there.
        let here = |owner: Owner| {
            let moved = normal(&self.layout().root().join(&owner.from_store));
            let manifest = PathBuf::from(owner.manifest);
            if !manifest.exists() && moved.exists() { moved } else { manifest }
        };
        Ok(owner.map(here))
    }

    /// Whether the runs of a name belong to a manifest other than this one.
    ///
    /// # Errors
    /// As [`Store::owner_of_run`].
    pub fn is_run_of_another(&self, run: &str, manifest: &Path) -> Result<bool> {
        let here = self.as_owner(manifest);
        let is_other = |owner: Owner| owner.manifest != here.manifest && owner.from_store != here.from_store;
        Ok(self.owner(run)?.is_some_and(is_other))
    }

    /// The names whose runs belong to a manifest, sorted; less those of which it is not known.
    ///
    /// # Errors
    /// When the folder of runs cannot be read.
    pub fn runs_of(&self, manifest: &Path) -> Result<Vec<String>> {
        let mut runs = Vec::new();
        for run in self.run_names()? {
            match self.owner(&run) {
                Ok(Some(_)) if !self.is_run_of_another(&run, manifest)? => runs.push(run),
                Ok(_) | Err(StoreError::OwnerUnknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(runs)
    }

    /// Makes a manifest the owner of a name that belongs to another.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn take_over_run(&self, run: &str, manifest: &Path) -> Result<()> {
        self.writable()?;
        let runs = self.layout().run(run)?;
        write::make_folder(&runs)?;
        let text = self.as_owner(manifest).encode()?;
        write::replace(&self.layout().folder("tmp"), &runs.join(FILE), text.as_bytes(), 0o644)
    }

    /// Makes a manifest the owner of a name that has none.
    ///
    /// # Errors
    /// [`StoreError::Owned`] where it is another's; as [`Store::owner_of_run`].
    pub(super) fn own_run(&self, run: &str, manifest: &Path) -> Result<()> {
        let path = self.layout().run(run)?.join(FILE);
        match self.owner(run)? {
            Some(owner) if owner == self.as_owner(manifest) => return Ok(()),
            Some(_) => {}
            None => {
                let text = self.as_owner(manifest).encode()?;
                // Another process may be quicker.
                if write::create(&self.layout().folder("tmp"), &path, text.as_bytes(), 0o644)? {
                    return Ok(());
                }
            }
        }
        if self.is_run_of_another(run, manifest)? {
            return Err(self.not_ours(run)?);
        }
        // It was moved with the store, or the store was.
        self.take_over_run(run, manifest)
    }

    /// That the runs of a name belong to another manifest, as an error.
    ///
    /// # Errors
    /// As [`Store::owner_of_run`].
    pub fn not_ours(&self, run: &str) -> Result<StoreError> {
        let manifest = self.owner_of_run(run)?.unwrap_or_default();
        Ok(StoreError::Owned { run: run.to_owned(), manifest })
    }

    fn owner(&self, run: &str) -> Result<Option<Owner>> {
        let path = self.layout().run(run)?.join(FILE);
        let read = match text::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.and_then(|text| Ok(serde_json::from_str(&text)?)),
        };
        read.map(Some).map_err(|source| StoreError::OwnerUnknown { run: run.to_owned(), path, source })
    }

    fn as_owner(&self, manifest: &Path) -> Owner {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Owner { manifest: text(manifest), from_store: text(&relative(self.layout().root(), manifest)) }
    }
}

impl Owner {
    fn encode(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|error| StoreError::io("write", Path::new(FILE))(error.into()))
    }
}

/// The way from a folder to a path, both absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    up.chain(to[shared..].iter().copied()).collect()
}

/// A path whose `..` are taken as written.
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
    fn the_way_from_a_folder_and_back_leads_to_the_path() {
        for (from, to, way) in [
            ("/p/cache", "/p/m.toml", "../m.toml"),
            ("/p/cache", "/p/manifests/m.toml", "../manifests/m.toml"),
            ("/big/cache", "/home/me/m.toml", "../../home/me/m.toml"),
            ("/p", "/p/m.toml", "m.toml"),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
            assert_eq!(normal(&Path::new(from).join(way)), Path::new(to));
        }
    }
}
