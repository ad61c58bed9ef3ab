//! What a running stage is handed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cancel::Cancel;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Result, StageError};
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::tree::TreePath;

/// Everything a running stage may touch.
#[derive(Debug)]
pub struct Context {
    /// What its input ports read: immutable files of the store.
    pub inputs: Inputs,
    /// Files outside the store, sorted by digest.
    pub sources: Vec<SourceFile>,
    /// Where its output ports are written.
    pub outputs: Outputs,
    /// A folder of its own that survives a crash and is handed to the next run of the same key.
    pub scratch: PathBuf,
    /// Its share of the machine.
    pub resources: Resources,
    /// The run's seed.
    pub seed: u64,
    /// Tells the engine how far it is.
    pub progress: Progress,
    /// Asks it to stop soon.
    pub cancel: Cancel,
}

/// A stage's share of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Threads to use.
    pub threads: usize,
    /// Bytes of memory to keep to.
    pub memory: u64,
    /// Where tensors live.
    pub device: Device,
}

/// The input trees by port.
#[derive(Debug, Clone, Default)]
pub struct Inputs(BTreeMap<String, InputTree>);

impl Inputs {
    /// These trees.
    pub fn new(trees: BTreeMap<String, InputTree>) -> Self {
        Self(trees)
    }

    /// The tree of a required port.
    ///
    /// # Errors
    /// When the port is not connected, which the engine's check of the manifest rules out.
    pub fn tree(&self, port: &str) -> Result<&InputTree> {
        self.get(port).ok_or_else(|| StageError::new(format!("input '{port}' is not connected")))
    }

    /// The tree of an optional port.
    pub fn get(&self, port: &str) -> Option<&InputTree> {
        self.0.get(port)
    }

    /// All connected ports, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &InputTree)> {
        self.0.iter().map(|(port, tree)| (port.as_str(), tree))
    }
}

/// A tree of the store, with the places of its files.
#[derive(Debug, Clone)]
pub struct InputTree {
    /// Its content digest.
    pub digest: Digest,
    /// Its files, sorted by path.
    pub files: Vec<InputFile>,
}

impl InputTree {
    /// The file at a path of the tree.
    pub fn file(&self, path: &str) -> Option<&InputFile> {
        self.files.iter().find(|file| file.path.as_str() == path)
    }

    /// The file at a path of the tree.
    ///
    /// # Errors
    /// When the tree has no such file.
    pub fn required(&self, path: &str) -> Result<&InputFile> {
        self.file(path).ok_or_else(|| StageError::new(format!("the input has no file '{path}'")))
    }

    /// The files below a folder of the tree, sorted by path.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a InputFile> {
        self.files
            .iter()
            .filter(move |file| file.path.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// One immutable file of an input tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// Where its bytes lie on disk (its name there says nothing).
    pub location: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// One file outside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl SourceFile {
    /// The digest of its content bound to its name (the last component of its path): what a key holds of a source whose
    /// name matters.
    pub fn named_digest(&self) -> Digest {
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        Digest::of_record("pipeline 2026 named source v1", &[self.digest.as_bytes(), name].concat())
    }
}
