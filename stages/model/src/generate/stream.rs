//! A completion's text as it grows.
//!
//! The text of a completion is the part before its first stop text, without trailing white space, and with U+FFFD for invalid UTF-8. A
//! [`TextStream`] returns it piece by piece, as the tokens arrive: a piece is text that no further token can change. It holds back a
//! possible beginning of a stop text, an incomplete character, and white space that may turn out to be trailing.

use super::stops::Stops;

/// The text of one completion, piece by piece.
#[derive(Debug)]
pub struct TextStream<'a> {
    stops: &'a Stops,
    /// All bytes so far.
    bytes: Vec<u8>,
    /// The number of bytes whose text was returned.
    returned: usize,
}

impl<'a> TextStream<'a> {
    /// Creates the stream of an empty completion.
    pub fn new(stops: &'a Stops) -> Self {
        Self { stops, bytes: Vec::new(), returned: 0 }
    }

    /// Adds the bytes of a token, and returns the text that is now certain.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        let end = self.stops.certain(&self.bytes);
        self.piece(whole_characters(&self.bytes[..end]))
    }

    /// Returns the rest of the text.
    pub fn finish(mut self) -> String {
        let end = self.stops.cut(&self.bytes).len();
        self.piece(end)
    }

    /// Returns the text up to `end`, which must be a character boundary, without trailing white space.
    fn piece(&mut self, end: usize) -> String {
        // A stop text that was complete in an earlier call ends the text.
        let new = self.bytes.get(self.returned..end).unwrap_or_default();
        let text = String::from_utf8_lossy(new);
        let text = text.trim_end();
        let held: usize = String::from_utf8_lossy(new)[text.len()..].len();
        self.returned += new.len() - held;
        text.to_owned()
    }
}

/// Returns the whole text of a completion's bytes, as a [`TextStream`] would return it.
pub fn completion_text(bytes: &[u8], stops: &Stops) -> String {
    String::from_utf8_lossy(stops.cut(bytes)).trim_end().to_owned()
}

/// Returns the length without an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) if !last.invalid().is_empty() && is_beginning(last.invalid()) => bytes.len() - last.invalid().len(),
        _ => bytes.len(),
    }
}

/// Returns whether the bytes are the beginning of a character.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
