//! The decision on each document, in a scratch file, by rank.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use super::jaccard::Overlap;
use super::positioned::read_at;
use super::record::take;

/// The rule by which a document is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An earlier document has the same fingerprint.
    Exact,
    /// The token set is near that of a kept document.
    Near,
}

impl Rule {
    /// Returns the name in `dropped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Near => "near",
        }
    }
}

/// The decision on a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentDecision {
    /// The document is kept.
    Kept,
    /// The document is removed because of a document that is kept.
    Removed {
        /// The rule.
        rule: Rule,
        /// The rank of the document that is kept.
        witness: u32,
        /// The overlap of their token sets.
        overlap: Overlap,
    },
}

/// The size of a decision in a file, in bytes.
pub const WIDTH: usize = 1 + 4 + 4 + 4;

impl DocumentDecision {
    /// Encodes the decision as bytes.
    pub fn to_bytes(self) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        if let Self::Removed { rule, witness, overlap } = self {
            bytes[0] = if rule == Rule::Exact { 1 } else { 2 };
            bytes[1..5].copy_from_slice(&witness.to_be_bytes());
            bytes[5..9].copy_from_slice(&overlap.both.to_be_bytes());
            bytes[9..].copy_from_slice(&overlap.either.to_be_bytes());
        }
        bytes
    }

    /// Decodes what [`DocumentDecision::to_bytes`] returned.
    pub fn from_bytes(mut bytes: &[u8]) -> Self {
        let rule = match take::<1>(&mut bytes)[0] {
            0 => return Self::Kept,
            1 => Rule::Exact,
            _ => Rule::Near,
        };
        let mut number = || u32::from_be_bytes(take(&mut bytes));
        let witness = number();
        let overlap = Overlap { both: number(), either: number() };
        Self::Removed { rule, witness, overlap }
    }
}

/// Writes decisions in order of rank.
#[derive(Debug)]
pub struct DecisionWriter(BufWriter<File>);

/// The decisions on all documents, by rank.
#[derive(Debug)]
pub struct DecisionFile(File);

impl DecisionWriter {
    /// Writes to an empty file, which [`DecisionFile`] then reads.
    pub fn new(file: File) -> Self {
        Self(BufWriter::with_capacity(1 << 18, file))
    }

    /// Appends the decision on the next rank.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn push(&mut self, decision: DocumentDecision) -> io::Result<()> {
        self.0.write_all(&decision.to_bytes())
    }

    /// Flushes the file and opens it for reading.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn finish(self) -> io::Result<DecisionFile> {
        Ok(DecisionFile(self.0.into_inner().map_err(io::IntoInnerError::into_error)?))
    }
}

impl DecisionFile {
    /// Returns the decisions on `count` ranks from `first`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn read(&self, first: u32, count: u32) -> io::Result<Vec<DocumentDecision>> {
        let mut bytes = vec![0; count as usize * WIDTH];
        read_at(&self.0, &mut bytes, u64::from(first) * WIDTH as u64)?;
        Ok(bytes.chunks_exact(WIDTH).map(DocumentDecision::from_bytes).collect())
    }
}
