//! Records of several parts, with digests that do not collide if a boundary between two parts moves.

use contract::Digest;

/// A record: each part follows its length.
#[derive(Debug, Default)]
pub(crate) struct Framed(Vec<u8>);

impl Framed {
    /// Adds a part.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Adds a list of parts.
    pub fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|text| self.text(text));
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Returns the digest of the parts as a record of `domain`.
    pub fn digest(&self, domain: &str) -> Digest {
        Digest::of_record(domain, &self.0)
    }
}
