//! The sources of a manifest: files and `--set` arguments.

use std::ops::Range;
use std::path::PathBuf;

use super::place::Place;

/// The index of a source, in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(usize);

/// A range of bytes in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The source.
    pub source: SourceId,
    /// The first byte.
    pub start: usize,
    /// The position after the last byte.
    pub end: usize,
}

impl Span {
    pub(super) fn new(source: SourceId, range: Range<usize>) -> Self {
        Self { source, start: range.start, end: range.end }
    }
}

/// The text of a file or argument, with its name and the directory that its relative paths are resolved against.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path of the file as given by the user, or `--set`.
    pub name: String,
    /// The absolute directory of the file; for `--set`, the working directory.
    pub directory: PathBuf,
    /// The content.
    pub text: String,
    /// The start of each line.
    lines: Vec<usize>,
}

impl Source {
    fn new(name: String, directory: PathBuf, text: String) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { name, directory, text, lines }
    }

    /// Returns the line that contains a byte, counted from 0.
    fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte).max(1) - 1
    }
}

/// All sources of a manifest.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a source.
    pub fn add(&mut self, name: impl Into<String>, directory: PathBuf, text: String) -> SourceId {
        self.0.push(Source::new(name.into(), directory, text));
        SourceId(self.0.len() - 1)
    }

    /// Returns a source. Ids come only from [`Sources::add`], so it exists.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id.0]
    }

    /// Returns the position of the start of a span.
    pub fn place(&self, span: Span) -> Place {
        let source = self.get(span.source);
        let line = source.line(span.start);
        let before = source.text.get(source.lines[line]..span.start).unwrap_or_default();
        Place { file: source.name.clone(), line: line + 1, column: before.chars().count() + 1 }
    }
}
