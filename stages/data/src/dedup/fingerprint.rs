//! The hash that identifies exact duplicates: the first 16 bytes of blake3 of the content, with or without white space.
//!
//! [`Exact::Whitespace`] is CodeParrot's `re.sub(r"\s+", "", content)`: all that Python's `\s` matches is removed, which
//! is Unicode's white space and the four separators U+001C to U+001F.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The definition of exact duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exact {
    /// Documents with the same content after all white space is removed.
    #[default]
    Whitespace,
    /// Documents with the same bytes.
    Bytes,
}

impl Exact {
    /// Returns the fingerprint of a document. `buffer` is reused between documents.
    pub fn fingerprint(self, content: &str, buffer: &mut Vec<u8>) -> [u8; 16] {
        let hash = match self {
            Self::Bytes => blake3::hash(content.as_bytes()),
            Self::Whitespace => {
                without_whitespace(content, buffer);
                blake3::hash(buffer)
            }
        };
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&hash.as_bytes()[..16]);
        fingerprint
    }
}

/// Copies `content` without its white space into `buffer`.
fn without_whitespace(content: &str, buffer: &mut Vec<u8>) {
    let bytes = content.as_bytes();
    buffer.clear();
    buffer.resize(bytes.len(), 0);
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let byte = bytes[from];
        match CLASS[usize::from(byte)] {
            LEAD => {
                let Some(character) = content[from..].chars().next() else { break };
                let length = character.len_utf8();
                if !character.is_whitespace() {
                    buffer[to..to + length].copy_from_slice(&bytes[from..from + length]);
                    to += length;
                }
                from += length;
            }
            // Always written, then kept or overwritten: a branch would be mispredicted at the end of every word.
            step => {
                buffer[to] = byte;
                to += usize::from(step);
                from += 1;
            }
        }
    }
    buffer.truncate(to);
}

/// The first byte of a character that may be white space beyond ASCII (U+0085, U+00A0, U+1680, U+2000.., U+3000).
const LEAD: u8 = 2;

/// The number of bytes that a byte adds, or [`LEAD`]. ASCII's white space is what Python's `\s` matches.
const CLASS: [u8; 256] = {
    let mut class = [1; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'\t'..=b'\r' | 0x1c..=0x1f | b' ' => 0,
            0xc2 | 0xe1..=0xe3 => LEAD,
            _ => 1,
        };
        byte += 1;
    }
    class
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_is_what_python_removes() {
        let mut buffer = Vec::new();
        without_whitespace("a \t\n\u{b}\u{c}\r\u{1c}\u{1f}b\u{85}\u{a0}\u{3000}é\u{200b}\u{2028}c", &mut buffer);
        assert_eq!(std::str::from_utf8(&buffer), Ok("abé\u{200b}c"));
    }

    #[test]
    fn indentation_matters_to_bytes_only() {
        let of = |exact: Exact, content| exact.fingerprint(content, &mut Vec::new());
        assert_eq!(of(Exact::Whitespace, "if x:\n    y"), of(Exact::Whitespace, "if x:\n\ty\n"));
        assert_ne!(of(Exact::Bytes, "if x:\n    y"), of(Exact::Bytes, "if x:\n\ty\n"));
    }
}
