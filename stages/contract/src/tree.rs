//! A tree: the sorted list of the files of one output port of one build.
//!
//! Its bytes are lines of text, so that a person can read one with `cat`, and its digest is their hash in the domain
//! [`DOMAIN`]:
//!
//! ```text
//! pipeline tree 1
//! <64 hex digits> <size> <path>
//! ```
//!
//! Paths are relative, `/`-separated, sorted by bytes, unique, and free of control characters, `.`, `..` and empty
//! components ([`TreePath`]), so that one tree has one encoding and no tree can reach outside its directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::digest::Digest;

/// The domain of tree digests (blake3 `derive_key`).
pub const DOMAIN: &str = "pipeline 2026 tree v1";
const HEADER: &str = "pipeline tree 1";

/// A safe relative path inside a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TreePath(String);

/// The reason that a string is not a valid [`TreePath`] or [`Tree`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path is absolute, or contains `..`, empty components, backslashes or control characters.
    #[error("'{}' is not a safe relative path", .0.escape_debug())]
    Path(String),
    /// Two files of one tree share a path.
    #[error("'{0}' is listed twice in the tree")]
    Twice(TreePath),
    /// A line does not match the format.
    #[error("line {0} is not a valid line of a tree file")]
    Line(usize),
}

impl FromStr for TreePath {
    type Err = TreeError;

    fn from_str(text: &str) -> Result<Self, TreeError> {
        let safe = |component: &str| !matches!(component, "" | "." | "..");
        if text.chars().any(|c| c.is_control() || c == '\\') || !text.split('/').all(safe) {
            return Err(TreeError::Path(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TreePath {
    /// Returns the path as text, `/`-separated.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path below `folder`.
    pub fn below(&self, folder: &Path) -> PathBuf {
        self.0.split('/').fold(folder.to_owned(), |path, component| path.join(component))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeEntry {
    /// The path in the tree.
    pub path: TreePath,
    /// The digest of its content.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
}

/// The files of one output, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(Vec<TreeEntry>);

impl Tree {
    /// Creates a tree of these files, in any order.
    ///
    /// # Errors
    /// Returns an error if two files share a path.
    pub fn new(mut entries: Vec<TreeEntry>) -> Result<Self, TreeError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        match entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
            Some(pair) => Err(TreeError::Twice(pair[0].path.clone())),
            None => Ok(Self(entries)),
        }
    }

    /// Returns the files, sorted by path.
    pub fn entries(&self) -> &[TreeEntry] {
        &self.0
    }

    /// Returns the total size of all files, in bytes.
    pub fn size(&self) -> u64 {
        self.0.iter().map(|entry| entry.size).sum()
    }

    /// Returns the canonical bytes (module docs).
    pub fn encode(&self) -> String {
        self.0.iter().fold(format!("{HEADER}\n"), |text, entry| {
            text + &format!("{} {} {}\n", entry.digest, entry.size, entry.path)
        })
    }

    /// Decodes the bytes of [`Tree::encode`].
    ///
    /// # Errors
    /// Returns an error for bytes that `encode` cannot produce: hostile paths, wrong order, a missing final newline.
    pub fn decode(text: &str) -> Result<Self, TreeError> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let malformed = || TreeError::Line(number + 1);
            if number == 0 {
                if line != HEADER {
                    return Err(malformed());
                }
                continue;
            }
            let (digest, rest) = line.split_once(' ').ok_or_else(malformed)?;
            let (size, path) = rest.split_once(' ').ok_or_else(malformed)?;
            entries.push(TreeEntry {
                path: path.parse()?,
                digest: digest.parse().map_err(|_| malformed())?,
                size: size.parse().map_err(|_| malformed())?,
            });
        }
        let tree = Self::new(entries)?;
        if tree.encode() == text { Ok(tree) } else { Err(TreeError::Line(text.lines().count())) }
    }

    /// Returns the digest of the canonical bytes, which is the content digest of an input port in a key.
    pub fn digest(&self) -> Digest {
        Digest::of_record(DOMAIN, self.encode().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, content: &str) -> TreeEntry {
        TreeEntry { path: path.parse().unwrap(), digest: Digest::of(content.as_bytes()), size: content.len() as u64 }
    }

    #[test]
    fn a_tree_reads_back_as_it_was_written() {
        let tree = Tree::new(vec![entry("text/b", "2"), entry("rows/a", "1")]).unwrap();
        assert_eq!(Tree::decode(&tree.encode()), Ok(tree.clone()));
        assert_eq!(tree.entries()[0].path.as_str(), "rows/a");
    }

    #[test]
    fn moving_bytes_between_files_changes_the_digest() {
        let one = Tree::new(vec![entry("x", "yz")]).unwrap();
        let other = Tree::new(vec![entry("xy", "z")]).unwrap();
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "a\nb", "a\\b", "."] {
            assert!(path.parse::<TreePath>().is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_tree_in_another_order_is_refused() {
        let tree = Tree::new(vec![entry("a", "1"), entry("b", "2")]).unwrap().encode();
        let mut lines: Vec<_> = tree.lines().collect();
        lines.swap(1, 2);
        assert!(Tree::decode(&(lines.join("\n") + "\n")).is_err());
        assert!(Tree::decode(tree.trim_end()).is_err());
    }
}
