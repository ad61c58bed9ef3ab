//! The hash by which exact duplicates are known: the first 16 bytes of blake3, in one of two readings of the content.
//!
//! [`Exact::Whitespace`] is CodeParrot's `re.sub(r"\s+", "", content)`: all that Python's `\s` matches is removed, which
//! is Unicode's white space and the four separators U+001C to U+001F.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which documents are exact duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exact {
    /// Those with the same content once all white space is removed.
    #[default]
    Whitespace,
    /// Those with the same bytes.
    Bytes,
}

impl Exact {
    /// The fingerprint of a document. `buffer` is reused between documents.
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

/// Copies `content` less its white space into `buffer`.
fn without_whitespace(content: &str, buffer: &mut Vec<u8>) {
    buffer.clear();
    let bytes = content.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        // Runs of one kind are long in code (indentation, words), so each is found first and copied at once.
        let ascii = bytes[at..].iter().position(|&byte| !byte.is_ascii() || is_ascii_space(byte));
        let end = ascii.map_or(bytes.len(), |length| at + length);
        buffer.extend_from_slice(&bytes[at..end]);
        at = end;
        if let Some(character) = content[at..].chars().next() {
            let next = at + character.len_utf8();
            if !is_space(character) {
                buffer.extend_from_slice(&bytes[at..next]);
            }
            at = next;
        }
    }
}

fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ')
}

/// What Python's `\s` matches in text.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

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
