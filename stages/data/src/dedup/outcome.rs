//! What becomes of each document, in the scratch folder, by rank.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use super::jaccard::Overlap;
use super::positioned::read_at;
use super::record::take;

/// By which rule a document is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An earlier document has its fingerprint.
    Exact,
    /// Its token set is near that of a kept document.
    Near,
}

impl Rule {
    /// Its name in `dropped`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Near => "near",
        }
    }
}

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It stays.
    Kept,
    /// It goes, because of a document that stays.
    Removed {
        /// Why.
        rule: Rule,
        /// The rank of the document that stays.
        witness: u32,
        /// Of their token sets.
        overlap: Overlap,
    },
}

/// The width of an outcome in a file.
pub const WIDTH: usize = 1 + 4 + 4 + 4;

impl Outcome {
    /// As bytes.
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

    /// What [`Outcome::to_bytes`] gave.
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

/// Outcomes being written, in order of rank.
#[derive(Debug)]
pub struct OutcomeWriter(BufWriter<File>);

/// All outcomes, by rank.
#[derive(Debug)]
pub struct Outcomes(File);

impl OutcomeWriter {
    /// Writes to a fresh file, which is also read.
    pub fn new(file: File) -> Self {
        Self(BufWriter::with_capacity(1 << 18, file))
    }

    /// Adds that of the next rank.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn push(&mut self, outcome: Outcome) -> io::Result<()> {
        self.0.write_all(&outcome.to_bytes())
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> io::Result<Outcomes> {
        Ok(Outcomes(self.0.into_inner().map_err(io::IntoInnerError::into_error)?))
    }
}

impl Outcomes {
    /// Those of `count` ranks from `first`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, first: u32, count: u32) -> io::Result<Vec<Outcome>> {
        let mut bytes = vec![0; count as usize * WIDTH];
        read_at(&self.0, &mut bytes, u64::from(first) * WIDTH as u64)?;
        Ok(bytes.chunks_exact(WIDTH).map(Outcome::from_bytes).collect())
    }
}
