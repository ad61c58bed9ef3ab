//! The index of the documents in the packed tokens.
//!
//! `documents.bin` is a header of [`HEADER_SIZE`] bytes, then a record of [`RECORD_SIZE`] bytes for each document, in the
//! order in which they were packed. All numbers are little-endian:
//!
//! | offset | bytes | field of the header |
//! |---|---|---|
//! | 0 | 8 | magic, [`MAGIC`] |
//! | 8 | 4 | version of the format, [`VERSION`] |
//! | 12 | 4 | 1 if the sequences were shuffled, else 0 |
//! | 16 | 8 | the shuffle's key |
//! | 24 | 8 | sequences |
//! | 32 | 8 | documents |
//!
//! | offset | bytes | field of a record |
//! |---|---|---|
//! | 0 | 32 | the document's id |
//! | 32 | 8 | its first token in the stream of documents |
//! | 40 | 8 | its tokens, including the end-of-text token |
//!
//! The stream is cut into sequences at multiples of the sequence length, and its tail is dropped: a document may reach
//! past the last sequence. If the sequences were not shuffled, sequence `n` of the packed file is the `n`-th of the
//! stream; otherwise it is the one that [`DocumentIndex::stream_sequence`] returns.

use std::fs::File;
use std::io::Write;

use contract::{Digest, InputTree, Result, StageError};
use memmap2::Mmap;

use crate::permutation::Permutation;

/// The file's first bytes.
pub const MAGIC: [u8; 8] = *b"plDocIdx";
/// The version of the format.
pub const VERSION: u32 = 1;
/// The number of bytes before the first record.
pub const HEADER_SIZE: usize = 40;
/// The size of a record, in bytes.
pub const RECORD_SIZE: usize = 48;
/// The file's path in a tree of type `tokens`.
pub const FILE: &str = "documents.bin";

/// The counts of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The number of documents.
    pub documents: u64,
    /// The number of sequences.
    pub sequences: u64,
    /// The key of the shuffle of the sequences, if they were shuffled.
    pub permutation: Option<u64>,
}

/// The position of a document in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The document.
    pub id: Digest,
    /// The first token.
    pub start: u64,
    /// The number of tokens, including the end-of-text token.
    pub tokens: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.permutation.is_some()).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.permutation.unwrap_or(0).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequences.to_le_bytes());
        bytes[32..].copy_from_slice(&self.documents.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_SIZE)?;
        let permutation = (number(header, 8) >> 32 == 1).then(|| number(header, 16));
        let decoded = Self { documents: number(header, 32), sequences: number(header, 24), permutation };
        (decoded.encode() == *header).then_some(decoded)
    }
}

/// Reads the 8-byte number at an offset.
fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn malformed(problem: &str) -> StageError {
    StageError::new(format!("{FILE} is not an index of documents: {problem}"))
}

/// Writes an index.
#[derive(Debug)]
pub struct IndexWriter<W> {
    inner: W,
    left: u64,
}

impl<W: Write> IndexWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Returns an error if `inner` cannot be written.
    pub fn new(mut inner: W, header: Header) -> Result<Self> {
        inner.write_all(&header.encode())?;
        Ok(Self { inner, left: header.documents })
    }

    /// Writes the next document.
    ///
    /// # Errors
    /// Returns an error if there are more than the header declares, or `inner` cannot be written.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| malformed("more documents than its header says"))?;
        self.inner.write_all(entry.id.as_bytes())?;
        self.inner.write_all(&entry.start.to_le_bytes())?;
        self.inner.write_all(&entry.tokens.to_le_bytes())?;
        Ok(())
    }

    /// Finishes the file and returns `inner`.
    ///
    /// # Errors
    /// Returns an error if there are fewer documents than the header declares.
    pub fn finish(self) -> Result<W> {
        if self.left > 0 { Err(malformed("fewer documents than its header says")) } else { Ok(self.inner) }
    }
}

/// The index of the documents of an input tree, read through a memory map.
#[derive(Debug)]
pub struct DocumentIndex {
    map: Mmap,
    header: Header,
}

impl DocumentIndex {
    /// Opens the `documents.bin` of a tree of type `tokens`.
    ///
    /// # Errors
    /// Returns an error if the tree has none, it cannot be mapped, or its header and size do not agree.
    pub fn open(tree: &InputTree) -> Result<Self> {
        let input = tree.required(FILE)?;
        let file = File::open(&input.location).map_err(|error| StageError::io(format!("open {FILE}"), &error))?;
        // SAFETY: a file of an input tree is immutable: the store makes it read-only once it is written and never
        // changes or truncates it, so the bytes of the map do not change while the map exists.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| StageError::io(format!("map {FILE}"), &error))?;
        let header = Header::decode(&map).ok_or_else(|| malformed("its header is invalid"))?;
        let records = header.documents.checked_mul(RECORD_SIZE as u64);
        match records.and_then(|bytes| bytes.checked_add(HEADER_SIZE as u64)) {
            Some(size) if size == map.len() as u64 => Ok(Self { map, header }),
            _ => Err(malformed("its header does not match its size")),
        }
    }

    /// Returns the number of documents.
    pub fn documents(&self) -> usize {
        self.header.documents as usize
    }

    /// Returns a document by its number in the stream.
    pub fn get(&self, document: usize) -> Option<Entry> {
        let start = document.checked_mul(RECORD_SIZE)?.checked_add(HEADER_SIZE)?;
        let record = self.map.get(start..start.checked_add(RECORD_SIZE)?)?;
        let id = Digest::from_bytes(std::array::from_fn(|index| record[index]));
        Some(Entry { id, start: number(record, 32), tokens: number(record, 40) })
    }

    /// Returns the number of sequences in the packed file.
    pub fn sequences(&self) -> u64 {
        self.header.sequences
    }

    /// Returns the document that contains a token of the stream (from 0), and its number; `None` past the last document.
    pub fn at(&self, token: u64) -> Option<(usize, Entry)> {
        let (mut low, mut high) = (0, self.documents());
        // The documents below `low` start at or before the token, those from `high` on start after it.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)?.start <= token { low = middle + 1 } else { high = middle }
        }
        let document = low.checked_sub(1)?;
        let entry = self.get(document)?;
        (token - entry.start < entry.tokens).then_some((document, entry))
    }

    /// Returns the number in the stream of a sequence of the packed file.
    pub fn stream_sequence(&self, sequence: u64) -> u64 {
        match self.header.permutation {
            Some(key) if sequence < self.header.sequences => {
                Permutation::new(key, self.header.sequences).apply(sequence)
            }
            _ => sequence,
        }
    }
}
