//! Detects the format of a shard by its first bytes.

use std::fs::File;
use std::io::{self, Read};

use contract::GivenFile;
use flate2::bufread::GzDecoder;

use super::row::COLUMNS;
use super::shard::is_plain;

/// The number of bytes of a file that are examined.
const HEAD: usize = 4096;

/// The format of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Uncompressed JSON lines.
    Lines,
    /// Gzip of JSON lines.
    Gzip,
    /// Parquet.
    Parquet,
    /// A format that is not supported.
    Other(Other),
}

/// A format that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    /// The name under which it is counted: `zstd`, `utf-16`.
    pub kind: &'static str,
    /// The description: "zstd-compressed data".
    pub name: String,
    /// The hint.
    pub hint: &'static str,
}

impl Other {
    /// Returns the reason that the shard is not read.
    pub(super) fn reason(&self) -> String {
        format!("{}; expected gzip or plain JSON lines, or Parquet", self.name)
    }
}

impl Form {
    /// Detects the format of a file.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub(super) fn of(source: &GivenFile) -> io::Result<Self> {
        let mut head = Vec::new();
        File::open(&source.location)?.take(HEAD as u64).read_to_end(&mut head)?;
        if head.is_empty() && !is_plain(source) {
            let hint = "the download was interrupted, or the disk was full: download the file again";
            return Ok(other("empty", "an empty file, which no gzip or Parquet file is", hint));
        }
        let form = match Self::of_bytes(&head) {
            Self::Gzip => Self::of_gzip(&head),
            form => form,
        };
        if form == Self::Lines && source.has_extension("parquet") && !head.is_empty() {
            let hint = "rename the file to match its format, or download it again";
            return Ok(other("parquet", "not Parquet, as its name says", hint));
        }
        Ok(form)
    }

    /// Detects the format of the content of a gzip file that starts with `head`.
    fn of_gzip(head: &[u8]) -> Self {
        let mut inner = Vec::new();
        // The head of a longer file is cut off; whether the file itself is truncated is detected when it is read.
        let _ = GzDecoder::new(head).take(HEAD as u64).read_to_end(&mut inner);
        match Self::of_bytes(&inner) {
            Self::Lines => Self::Gzip,
            Self::Gzip => other("gzip", "gzip data compressed twice", "decompress it once with `gzip -d`"),
            Self::Parquet => other("parquet", "Parquet compressed with gzip", "decompress it with `gzip -d`"),
            Self::Other(inner) => {
                Self::Other(Other { name: format!("gzip-compressed, but not of JSON lines: {}", inner.name), ..inner })
            }
        }
    }

    fn of_bytes(head: &[u8]) -> Self {
        if head.starts_with(b"\x1f\x8b") {
            return Self::Gzip;
        }
        // A part of an export that was split begins inside a line, with any text: one bad row.
        let has_row = has_row(head);
        if has_row && !is_binary(head) {
            return Self::Lines;
        }
        if head.starts_with(b"PAR1") {
            return Self::Parquet;
        }
        for (start, kind, name, hint) in STARTS {
            if head.starts_with(start) {
                return other(kind, name, hint);
            }
        }
        if head.get(1..4) == Some(b"\x2a\x4d\x18") && matches!(head[0], 0x50..=0x5f) {
            // A skippable frame before other frames.
            return other("zstd", ZSTD, "decompress it with `zstd -d`");
        }
        if head.get(257..262) == Some(b"ustar") {
            return other("tar", "a tar archive", "unpack it with `tar -x`");
        }
        if is_wide(head) {
            return other("utf-16", UTF_16, TO_UTF_8);
        }
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        match text.first() {
            None => Self::Lines,
            Some(b'{') => {
                // An object on one line has a name or a closing brace after the opening brace.
                match text[1..].iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
                    Some(b'\n') => other("json", "JSON over several lines", "write each row on one line: `jq -c .`"),
                    _ => Self::Lines,
                }
            }
            Some(b'[') => match text[1..].trim_ascii_start().first() {
                Some(b'{' | b']') => other("json", "a JSON array", "write each row on one line: `jq -c '.[]'`"),
                _ => Self::Lines,
            },
            Some(b'<') if is_html(text) => other("html", "an HTML page", PAGE),
            Some(b'<') if text.starts_with(b"<?xml") => other("xml", "an XML document", PAGE),
            _ if is_csv(text) => {
                other("csv", "comma-separated values", "export as newline-delimited JSON or as Parquet")
            }
            _ if !has_row && is_binary(text) => {
                other("binary", "binary data of an unknown form", "look at it with `file`")
            }
            _ => Self::Lines,
        }
    }
}

const ZSTD: &str = "zstd-compressed data";
const UTF_16: &str = "text in UTF-16 or UTF-32";
const TO_UTF_8: &str = "convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`";
const PAGE: &str = "an error page was saved instead of the file: download it again";
const COLUMNAR: &str = "export as Parquet or as newline-delimited JSON";

/// The first bytes, kind, name and hint of each format.
const STARTS: [(&[u8], &str, &str, &str); 14] = [
    (b"\x28\xb5\x2f\xfd", "zstd", ZSTD, "decompress it with `zstd -d`"),
    (b"\xfd7zXZ\0", "xz", "xz-compressed data", "decompress it with `xz -d`"),
    (b"BZh", "bzip2", "bzip2-compressed data", "decompress it with `bzip2 -d`"),
    (b"PK\x03\x04", "zip", "a zip archive", "unpack it with `unzip`"),
    (b"PK\x05\x06", "zip", "an empty zip archive", "download the file again"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4-compressed data", "decompress it with `lz4 -d`"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "a 7z archive", "unpack it with `7z x`"),
    (b"Obj\x01", "avro", "an Avro file", COLUMNAR),
    (b"ORC", "orc", "an ORC file", COLUMNAR),
    (b"ARROW1", "arrow", "an Arrow file", COLUMNAR),
    (b"version https://git-lfs", "git-lfs", "a pointer of Git LFS, not the file", "get the file with `git lfs pull`"),
    (b"\xff\xfe", "utf-16", UTF_16, TO_UTF_8),
    (b"\xfe\xff", "utf-16", UTF_16, TO_UTF_8),
    (b"\0\0\xfe\xff", "utf-16", UTF_16, TO_UTF_8),
];

fn other(kind: &'static str, name: &str, hint: &'static str) -> Form {
    Form::Other(Other { kind, name: name.to_owned(), hint })
}

/// Returns whether the start is ASCII in units of two or four bytes: all even bytes are 0 and no odd byte is, or the reverse; or three of
/// every four bytes are 0.
fn is_wide(head: &[u8]) -> bool {
    let head = &head[..head.len().min(32)];
    [(2, 0), (2, 1), (4, 0), (4, 3)].into_iter().any(|(width, place)| {
        let units = head.chunks_exact(width);
        let is_ascii = |unit: &[u8]| {
            let zeros = unit.iter().enumerate().filter(|(at, _)| *at != place).all(|(_, byte)| *byte == 0);
            zeros && unit[place] != 0 && unit[place].is_ascii()
        };
        units.len() > 1 && units.into_iter().all(is_ascii)
    })
}

fn is_html(text: &[u8]) -> bool {
    let starts = [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<script", b"<!--"];
    starts.iter().any(|start| text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start)))
}

/// Returns whether the first line names several columns between separators.
fn is_csv(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let fields = line.split(|byte| matches!(byte, b',' | b';' | b'\t'));
    let is_column = |field: &&[u8]| {
        let name = field.trim_ascii();
        let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
        COLUMNS.iter().any(|column| column.as_bytes() == name)
    };
    fields.filter(is_column).count() > 1
}

/// Returns whether a line after the first starts like a row. Elements of an array do not count: the line before them ends in `[` or `,`.
fn has_row(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty());
    let Some(mut before) = lines.next() else { return false };
    lines.any(|line| {
        let is_row = line.starts_with(b"{\"") && !matches!(before.last(), Some(b'[' | b','));
        before = line;
        is_row
    })
}

/// Returns whether there are control characters that no text has. Bytes that are not UTF-8 make only their line malformed.
fn is_binary(text: &[u8]) -> bool {
    text.iter().any(|byte| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | b'\x0c'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(head: &[u8]) -> Option<&'static str> {
        match Form::of_bytes(head) {
            Form::Other(other) => Some(other.kind),
            _ => None,
        }
    }

    #[test]
    fn lines_are_told_from_what_looks_like_them() {
        for lines in [
            &b"{\"path\": 1}\n"[..],
            b"\xef\xbb\xbf{\"path\": 1}\n",
            b"\n\n  {\"path\": 1}\n",
            b"{ \"path\": 1}",
            b"{}\n",
            b"",
            b"{",
            b"[1, 2]\n{}\n",
            b"not JSON, but text\n",
            b"repo_name\n",
            // The first line is odd, the next one is a row.
            b"\xa9 = 1\"}\n{\"path\": 1}\n",
            b"\xa9 = 1\"}\n",
            b"{\n{\"path\": 1}\n",
            b"[{\n{\"path\": 1}\n",
            b"path,size\r\n\r\n{\"path\": 1}\n",
            b"<html>\n{\"path\": 1}\n",
            b"ORCHESTRA\"}\n{\"path\": 1}\n",
            b"\x01\n{\"path\": 1}\n",
        ] {
            assert_eq!(Form::of_bytes(lines), Form::Lines, "{}", lines.escape_ascii());
        }
    }

    #[test]
    fn wide_text_is_known_with_and_without_a_mark() {
        let text = "{\"path\": \"x\"}\n";
        let utf_16: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = utf_16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = utf_16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        let wide: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let wide_big: Vec<u8> = text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        for bytes in [&little, &big, &wide, &wide_big] {
            assert_eq!(kind(bytes), Some("utf-16"), "{}", bytes.escape_ascii());
        }
        assert_eq!(kind(&[b"\xff\xfe", &little[..]].concat()), Some("utf-16"));
        assert_eq!(kind(&[b"\xfe\xff", &big[..]].concat()), Some("utf-16"));
    }
}
