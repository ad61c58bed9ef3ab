//! What a running stage is handed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

    /// Whether no port is connected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
    /// `<digest> <bytes> <path>`, as locks and the store write it down.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.digest, self.size, self.path.to_string_lossy())
    }

    /// Reads what [`SourceFile::line`] wrote; `None` of anything else.
    pub fn of_line(line: &str) -> Option<Self> {
        let (digest, rest) = line.split_once(' ')?;
        let (size, path) = rest.split_once(' ')?;
        Some(Self { path: path.into(), digest: digest.parse().ok()?, size: size.parse().ok()? })
    }

    /// The digests of contents, each bound to its file's name: what a key holds of sources whose names matter. A name is
    /// the path below the innermost folder that holds all files, so that a folder may move and two files may not swap.
    pub fn named_digests<'f>(files: impl Iterator<Item = &'f Self> + Clone) -> Vec<Digest> {
        let folders = files.clone().filter_map(|file| file.path.parent());
        let common = folders
            .reduce(|one, other| one.ancestors().find(|shared| other.starts_with(shared)).unwrap_or(Path::new("")));
        let common = common.unwrap_or(Path::new(""));
        let digest = |file: &Self| {
            let name = file.path.strip_prefix(common).unwrap_or(&file.path).as_os_str().as_encoded_bytes();
            Digest::of_record("pipeline 2026 named source v1", &[file.digest.as_bytes(), name].concat())
        };
        files.map(digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(files: &[(&str, &str)]) -> Vec<Digest> {
        let file = |(path, content): &(&str, &str)| SourceFile {
            path: path.into(),
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
        };
        let mut digests = SourceFile::named_digests(files.iter().map(file).collect::<Vec<_>>().iter());
        digests.sort();
        digests
    }

    #[test]
    fn names_start_at_the_innermost_folder_that_holds_all_files() {
        let cases: [(&[&str], &[&str]); 9] = [
            (&["x.py"], &["x.py"]),
            (&["/x.py", "/y.py"], &["x.py", "y.py"]),
            (&["/a/b/x.py", "/a/c/y.py"], &["b/x.py", "c/y.py"]),
            (&["a/b/x.py", "a/bc/y.py"], &["b/x.py", "bc/y.py"]),
            (&["a/x.py", "/a/x.py"], &["a/x.py", "/a/x.py"]),
            (&["p//a/x.py", "p/b/./y.py"], &["a/x.py", "b/./y.py"]),
            (&["./x.py", "y.py"], &["./x.py", "y.py"]),
            (&["a/../x.py", "a/y.py"], &["../x.py", "y.py"]),
            (&["a/x.py", "a/b/c/y.py", "a/b/z.py"], &["x.py", "b/c/y.py", "b/z.py"]),
        ];
        for (paths, names) in cases {
            let file = |path: &&str| SourceFile { path: path.into(), digest: Digest::of(path.as_bytes()), size: 0 };
            let files: Vec<_> = paths.iter().map(file).collect();
            let bound = |(file, name): (&SourceFile, &&str)| {
                let content = [file.digest.as_bytes(), name.as_bytes()].concat();
                Digest::of_record("pipeline 2026 named source v1", &content)
            };
            let expected: Vec<_> = files.iter().zip(names).map(bound).collect();
            assert_eq!(SourceFile::named_digests(files.iter()), expected, "{paths:?}");
        }
        assert_eq!(SourceFile::named_digests([].iter()), []);
    }

    #[test]
    fn files_of_one_name_in_two_folders_cannot_swap_and_a_folder_can_move() {
        let before = named(&[("p/a/x.py", "one"), ("p/b/x.py", "two")]);
        assert_ne!(named(&[("p/a/x.py", "two"), ("p/b/x.py", "one")]), before);
        assert_eq!(named(&[("/q/a/x.py", "one"), ("/q/b/x.py", "two")]), before);
        assert_eq!(named(&[("p/x.py", "one")]), named(&[("/elsewhere/x.py", "one")]));
        assert_ne!(named(&[("x.py", "one")]), named(&[("y.py", "one")]));
    }
}
