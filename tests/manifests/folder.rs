//! The manifests of `tests/manifests`, and those that a test writes into a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use pipeline::manifest::{self, Diagnostics, Manifest, Overrides, StageName};
use serde_json::Value;

use super::kinds::kinds;

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name)
}

/// The manifests of a folder, less those that others are laid over.
pub fn manifests(name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with('_'));
    files.sort();
    files
}

pub fn load(path: &Path, sets: &[&str]) -> Result<Manifest, Diagnostics> {
    let overrides = Overrides { sets: sets.iter().map(|set| (*set).to_owned()).collect(), machine: None };
    manifest::load(path, &overrides, &kinds())
}

/// A manifest of this text in a folder of its own.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        Self(tempfile::tempdir().unwrap()).file("m.toml", text)
    }

    pub fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("m.toml")
    }

    pub fn load(&self, sets: &[&str]) -> Result<Manifest, Diagnostics> {
        load(&self.path(), sets)
    }

    /// The messages, with the folder's own name taken out.
    pub fn errors(&self, sets: &[&str]) -> String {
        let folder = format!("{}/", self.0.path().display());
        self.load(sets).unwrap_err().to_string().replace(&folder, "")
    }
}

pub fn base() -> String {
    fs::read_to_string(folder("valid/whole.toml")).unwrap()
}

pub fn name(text: &str) -> StageName {
    text.parse().unwrap()
}

pub fn spec<'m>(manifest: &'m Manifest, stage: &str, setting: &str) -> &'m Value {
    manifest.stages[stage].stage.spec().get(setting).unwrap_or(&Value::Null)
}
