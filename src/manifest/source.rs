//! The texts that a manifest is read from: files and `--set` arguments.

use std::path::PathBuf;

use super::place::Place;

/// What a source that is an argument of the command line is called.
pub(super) const COMMAND_LINE: &str = "--set";

/// One text, by the order in which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(usize);

/// A range of bytes of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// One text with its name and the folder that its relative paths start from.
#[derive(Debug, Clone)]
pub struct Source {
    /// What people call it: the file's path as it was given, or `--set`.
    pub name: String,
    /// Absolute: the file's folder; for `--set`, the working directory.
    pub folder: PathBuf,
    /// What it holds.
    pub text: String,
    /// Where each line starts.
    lines: Vec<usize>,
    /// Characters before each block of [`BLOCK`] bytes: a file may be one line with a hundred thousand settings.
    blocks: Vec<usize>,
}

/// Bytes.
const BLOCK: usize = 256;

impl Source {
    fn new(name: String, folder: PathBuf, text: String) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        let blocks = text.as_bytes().chunks(BLOCK).scan(0, |before, block| {
            let characters = *before;
            *before += counted(block);
            Some(characters)
        });
        let blocks = blocks.collect();
        Self { name, folder, text, lines, blocks }
    }

    /// The line that holds a byte, from 0.
    fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte).max(1) - 1
    }

    /// Bytes of the line that holds a byte.
    pub(super) fn line_length(&self, byte: usize) -> usize {
        let line = self.line(byte);
        self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1) - self.lines[line]
    }

    /// Characters before a byte.
    fn characters(&self, byte: usize) -> usize {
        let byte = byte.min(self.text.len());
        let block = (byte / BLOCK).min(self.blocks.len().saturating_sub(1));
        let before = self.blocks.get(block).copied().unwrap_or_default();
        before + counted(&self.text.as_bytes()[block * BLOCK..byte])
    }
}

/// Characters that begin in these bytes.
fn counted(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

/// All texts of one manifest.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text.
    pub fn add(&mut self, name: impl Into<String>, folder: PathBuf, text: String) -> SourceId {
        self.0.push(Source::new(name.into(), folder, text));
        SourceId(self.0.len() - 1)
    }

    /// A text. Ids come from [`Sources::add`] alone, so there is one.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id.0]
    }

    /// The text of a span; empty where the span is not one of characters.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.source).text.get(span.start..span.end).unwrap_or_default()
    }

    /// Where a span starts, for people.
    pub fn place(&self, span: Span) -> Place {
        let source = self.get(span.source);
        let line = source.line(span.start);
        let characters = source.characters(span.start) - source.characters(source.lines[line]);
        Place { file: source.name.clone(), line: line + 1, column: characters + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let mut sources = Sources::default();
        let source = sources.add("m.toml", PathBuf::new(), "a\nbé c\n".to_owned());
        let place = |start| {
            let place = sources.place(Span { source, start, end: start });
            (place.line, place.column)
        };
        assert_eq!([place(0), place(2), place(6), place(8)], [(1, 1), (2, 1), (2, 4), (3, 1)]);
    }

    #[test]
    fn a_place_far_into_a_long_line_is_counted_as_one_near_its_start() {
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000] {
            let mut sources = Sources::default();
            let text = format!("first\n{}", "aé".repeat(length));
            let source = sources.add("m.toml", PathBuf::new(), text.clone());
            for (start, _) in text.char_indices().chain([(text.len(), ' ')]).filter(|(start, _)| *start > 5) {
                let Place { line, column, .. } = sources.place(Span { source, start, end: start });
                assert_eq!((line, column), (2, text[6..start].chars().count() + 1), "{length} {start}");
            }
        }
    }
}
