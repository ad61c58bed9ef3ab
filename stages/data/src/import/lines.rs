//! Lines of a stream, each of bounded length.

use std::io::{self, BufRead, Read};

/// Reads lines into one buffer, which is reused.
pub(super) struct Lines<R> {
    reader: R,
    limit: u64,
    number: u64,
    line: Vec<u8>,
}

/// One line, without its line ending.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line within the limit.
    Whole(&'a [u8]),
    /// The beginning of a longer line, and its length.
    TooLong(&'a [u8], u64),
}

/// The buffer size above which the buffer is freed after a long line.
const KEPT_CAPACITY: usize = 4 << 20;

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R, limit: u64) -> Self {
        Self { reader, limit, number: 0, line: Vec::new() }
    }

    /// Returns the number of the line that was read last, from 1. After an error, returns the number of the line that could not be read.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the next line; `None` at the end of the stream. The part of a line read before an error is lost.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        if self.line.capacity() > KEPT_CAPACITY {
            self.line = Vec::new();
        }
        self.number += 1;
        // One byte more than the limit distinguishes a line of exactly the limit from a longer one; another byte is for its line end.
        let taken = (&mut self.reader).take(self.limit + 1).read_until(b'\n', &mut self.line)? as u64;
        if taken == 0 {
            return Ok(None);
        }
        if self.line.last() != Some(&b'\n') && taken > self.limit {
            let rest = self.reader.skip_until(b'\n')? as u64;
            return Ok(Some(Line::TooLong(&self.line[..256.min(self.line.len())], taken + rest)));
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = if self.number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        Ok(Some(Line::Whole(line)))
    }
}
