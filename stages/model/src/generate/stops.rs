//! Stop texts, at which a completion ends.
//!
//! A completion is truncated before the first occurrence of one of the texts. During generation, only its tail is searched: a stop text
//! that has just become complete must end in the newest token. Bytes are compared, not characters, because a token may end inside a
//! character.

/// Stop texts, at which a completion ends.
#[derive(Debug, Clone, Default)]
pub struct Stops(Vec<Vec<u8>>);

impl Stops {
    /// Creates stops from the given texts; empty texts are ignored.
    pub fn new(texts: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self(texts.into_iter().map(Into::into).filter(|text: &Vec<u8>| !text.is_empty()).collect())
    }

    /// Returns whether a stop text ends in the last `newest` bytes of `completion`.
    pub fn ends(&self, completion: &[u8], newest: usize) -> bool {
        self.0.iter().any(|text| {
            let from = completion.len().saturating_sub(newest + text.len() - 1);
            completion[from..].windows(text.len()).any(|window| window == text)
        })
    }

    /// Returns the length of the completion that no further bytes can change: before the first stop text, and before a possible beginning
    /// of one.
    pub fn certain(&self, completion: &[u8]) -> usize {
        let beginning = |text: &Vec<u8>| {
            let longest = completion.len().min(text.len() - 1);
            (1..=longest).rev().find(|&size| completion.ends_with(&text[..size]))
        };
        let held = self.0.iter().filter_map(beginning).max().unwrap_or(0);
        self.cut(completion).len().min(completion.len() - held)
    }

    /// Returns the completion before the first stop text.
    pub fn cut<'a>(&self, completion: &'a [u8]) -> &'a [u8] {
        let first = |text: &Vec<u8>| completion.windows(text.len()).position(|window| window == text);
        let end = self.0.iter().filter_map(first).min().unwrap_or(completion.len());
        &completion[..end]
    }
}
