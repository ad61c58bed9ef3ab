//! The inputs, outputs and resources of a running stage.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cancel::Cancel;
use crate::derived::Derived;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Result, StageError};
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::stage::SourcePattern;
use crate::tree::TreePath;

/// The inputs, outputs and resources of a running stage.
#[derive(Debug)]
pub struct Context {
    /// The trees of its input ports: immutable files of the store.
    pub inputs: Inputs,
    /// Files outside the store, sorted by digest.
    pub sources: Vec<SourceFile>,
    /// The output ports to write.
    pub outputs: Outputs,
    /// A scratch directory that survives a crash and is passed to the next run of the same key.
    pub scratch: PathBuf,
    /// Files derived from one input alone, created once for all stages.
    pub derived: Derived,
    /// The share of the machine's resources for the stage.
    pub resources: Resources,
    /// The run's seed.
    pub seed: u64,
    /// The facts of the machine in the stage's key ([`crate::Stage::machine_facts`]).
    pub machine_facts: BTreeMap<String, String>,
    /// Reports progress to the engine.
    pub progress: Progress,
    /// The flag that asks the stage to stop.
    pub cancel: Cancel,
}

/// A stage's share of the machine's resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// The number of threads to use.
    pub threads: usize,
    /// The memory that it may use, in bytes.
    pub memory: u64,
    /// The compute device for tensors.
    pub device: Device,
}

/// The input trees by port.
#[derive(Debug, Clone, Default)]
pub struct Inputs(BTreeMap<String, InputTree>);

impl Inputs {
    /// Creates inputs of these trees.
    pub fn new(trees: BTreeMap<String, InputTree>) -> Self {
        Self(trees)
    }

    /// Returns the tree of a required port.
    ///
    /// # Errors
    /// Returns an error if the port is not connected, which the engine's check of the manifest rules out.
    pub fn tree(&self, port: &str) -> Result<&InputTree> {
        self.get(port).ok_or_else(|| StageError::new(format!("input '{port}' is not connected")))
    }

    /// Returns the tree of an optional port, if it is connected.
    pub fn get(&self, port: &str) -> Option<&InputTree> {
        self.0.get(port)
    }

    /// Returns whether no port is connected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all connected ports, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &InputTree)> {
        self.0.iter().map(|(port, tree)| (port.as_str(), tree))
    }
}

/// A tree of the store, with the locations of its files.
#[derive(Debug, Clone)]
pub struct InputTree {
    /// The content digest.
    pub digest: Digest,
    /// The files, sorted by path.
    pub files: Vec<InputFile>,
}

impl InputTree {
    /// Returns the file at a path of the tree.
    pub fn file(&self, path: &str) -> Option<&InputFile> {
        self.files.iter().find(|file| file.path.as_str() == path)
    }

    /// Returns the file at a path of the tree.
    ///
    /// # Errors
    /// Returns an error if the tree has no such file.
    pub fn required(&self, path: &str) -> Result<&InputFile> {
        self.file(path).ok_or_else(|| StageError::new(format!("the input has no file '{path}'")))
    }

    /// Returns the files below a directory of the tree, sorted by path.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a InputFile> {
        self.files
            .iter()
            .filter(move |file| file.path.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }
}

/// One immutable file of an input tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// The path in the tree.
    pub path: TreePath,
    /// The path of its content on disk (the name of that file has no meaning).
    pub location: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// One file outside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path.
    pub path: PathBuf,
    /// The digest of its content.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

impl SourceFile {
    /// Formats it as `<digest> <bytes> <path>`, the format in locks and the store.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.digest, self.size, self.path.to_string_lossy())
    }

    /// Parses a line of [`SourceFile::line`]; returns `None` for any other string.
    pub fn of_line(line: &str) -> Option<Self> {
        let (digest, rest) = line.split_once(' ')?;
        let (size, path) = rest.split_once(' ')?;
        Some(Self { path: path.into(), digest: digest.parse().ok()?, size: size.parse().ok()? })
    }

    /// Returns the digests of contents, each combined with its file's name, for the key of a stage for which the names of sources matter.
    ///
    /// A file's name is the name in the manifest: its path relative to the base directory of its pattern
    /// ([`SourcePattern::folder`]), so that a moved project keeps its keys but two swapped files do not. The name of a file that only an absolute
    /// pattern matches is its path relative to the innermost directory that contains all such files, with a leading `/`.
    pub fn named_digests<'f>(files: impl Iterator<Item = &'f Self>, patterns: &[SourcePattern]) -> Vec<Digest> {
        let mut starts: Vec<_> = patterns.iter().filter_map(SourcePattern::folder).collect();
        // The longest first: nested directories are not ordered by the order of patterns.
        starts.sort_by_key(|start| (Reverse(start.components().count()), start.clone()));
        let relative = |file: &Self| starts.iter().find_map(|start| file.path.strip_prefix(start).ok().map(name_bytes));
        let named: Vec<_> = files.map(|file| (file, relative(file))).collect();
        let absolute = named.iter().filter(|(_, name)| name.is_none());
        let common = absolute
            .filter_map(|(file, _)| file.path.parent())
            .reduce(|one, other| one.ancestors().find(|shared| other.starts_with(shared)).unwrap_or(Path::new("")));
        let common = common.unwrap_or(Path::new(""));
        let digest = |(file, name): (&Self, Option<Vec<u8>>)| {
            let name = name
                .unwrap_or_else(|| [b"/", &*name_bytes(file.path.strip_prefix(common).unwrap_or(&file.path))].concat());
            Digest::of_record("pipeline 2026 named source v1", &[file.digest.as_bytes(), &*name].concat())
        };
        named.into_iter().map(digest).collect()
    }
}

/// Returns a path without `.` and doubled slashes.
fn name_bytes(path: &Path) -> Vec<u8> {
    path.components().collect::<PathBuf>().as_os_str().as_encoded_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names that digests are bound to.
    fn names(paths: &[&str], patterns: &[&str], expected: &[&str]) {
        let file = |path: &&str| SourceFile { path: path.into(), digest: Digest::of(path.as_bytes()), size: 0 };
        let files: Vec<_> = paths.iter().map(file).collect();
        let patterns: Vec<_> = patterns.iter().map(|pattern| SourcePattern((*pattern).to_owned())).collect();
        let bound = |(file, name): (&SourceFile, &&str)| {
            let content = [file.digest.as_bytes(), name.as_bytes()].concat();
            Digest::of_record("pipeline 2026 named source v1", &content)
        };
        let expected: Vec<_> = files.iter().zip(expected).map(bound).collect();
        assert_eq!(SourceFile::named_digests(files.iter(), &patterns), expected, "{paths:?}");
    }

    #[test]
    fn a_file_is_called_as_the_manifest_calls_it() {
        let project = ["/p/proj/./scripts/*.py", "/data/words.txt"];
        names(&["/p/proj/scripts/x.py", "/data/words.txt"], &project, &["scripts/x.py", "/words.txt"]);
        names(&["/p/proj/../shared/w.txt", "/p/proj//a/./x.py"], &project, &["../shared/w.txt", "a/x.py"]);
        names(&["/p/proj/x.py", "/p/other/x.py"], &project, &["x.py", "/x.py"]);
        names(&["/a[1]/x.py"], &["/a[[]1[]]/./*.py"], &["x.py"]);
        names(&["/a/b/x.py", "/a/y.py"], &["/a/./*", "/a/b/./*"], &["x.py", "y.py"]);
        names(&[], &project, &[]);
    }

    #[test]
    fn files_of_absolute_patterns_are_called_by_their_place_among_each_other() {
        let cases: [(&[&str], &[&str]); 7] = [
            (&["x.py"], &["/x.py"]),
            (&["/x.py", "/y.py"], &["/x.py", "/y.py"]),
            (&["/a/b/x.py", "/a/c/y.py"], &["/b/x.py", "/c/y.py"]),
            (&["/a/b/x.py", "/a/bc/y.py"], &["/b/x.py", "/bc/y.py"]),
            (&["/p//a/x.py", "/p/b/./y.py"], &["/a/x.py", "/b/y.py"]),
            (&["/a/../x.py", "/a/y.py"], &["/../x.py", "/y.py"]),
            (&["/a/x.py", "/a/b/c/y.py", "/a/b/z.py"], &["/x.py", "/b/c/y.py", "/b/z.py"]),
        ];
        for (paths, expected) in cases {
            names(paths, &[], expected);
        }
    }

    fn named(files: &[(&str, &str)], patterns: &[&str]) -> Vec<Digest> {
        let file = |(path, content): &(&str, &str)| SourceFile {
            path: path.into(),
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
        };
        let patterns: Vec<_> = patterns.iter().map(|pattern| SourcePattern((*pattern).to_owned())).collect();
        let mut digests = SourceFile::named_digests(files.iter().map(file).collect::<Vec<_>>().iter(), &patterns);
        digests.sort();
        digests
    }

    #[test]
    fn a_project_can_move_and_its_files_can_neither_swap_nor_be_renamed() {
        let at = |project: &str, content: [&str; 3]| {
            let pattern = format!("{project}/./**");
            let paths = [format!("{project}/a/x.py"), format!("{project}/b/x.py"), "/data/x.py".to_owned()];
            let files: Vec<_> = paths.iter().map(String::as_str).zip(content).collect();
            named(&files, &[&pattern, "/data/x.py"])
        };
        let before = at("/p", ["one", "two", "three"]);
        assert_eq!(at("/elsewhere/q", ["one", "two", "three"]), before);
        assert_ne!(at("/p", ["two", "one", "three"]), before);
        assert_ne!(at("/p", ["three", "two", "one"]), before);
        assert_ne!(named(&[("/p/x.py", "one")], &["/p/./*"]), named(&[("/p/y.py", "one")], &["/p/./*"]));
        assert_ne!(named(&[("/p/x.py", "one")], &["/p/./*"]), named(&[("/p/x.py", "one")], &["/p/x.py"]));
        assert_eq!(named(&[("/p/x.py", "one")], &[]), named(&[("/q/x.py", "one")], &[]));
    }
}
