//! Packed tokens: sequences of fixed length in one file, which is read through a memory map.
//!
//! `tokens.bin` is a header of [`HEADER_SIZE`] bytes, then the ids, sequence after sequence, with nothing after them.
//! All numbers are little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic, [`MAGIC`] |
//! | 8 | 4 | version of the format, [`VERSION`] |
//! | 12 | 4 | bytes per id: 2 if the vocabulary is at most 65,536, else 4 |
//! | 16 | 4 | vocabulary: every id is below it |
//! | 20 | 4 | id of the end-of-text token, which follows every document |
//! | 24 | 8 | sequence length, in tokens |
//! | 32 | 8 | sequences |
//! | 40 | 8 | packed documents, including cut ones |
//! | 48 | 8 | bytes of text that the ids decode to, without end-of-text tokens |
//! | 56 | 8 | zero |
//!
//! The header determines the exact size of the file, so a truncated or extended file is rejected. An id outside the vocabulary is an error
//! only when it is read, because checking all ids on opening would read the whole file.
//!
//! The size is compared with that of the map once, when the file is opened; afterwards the file must not change. The store's files are
//! read-only, and nothing in this program changes or truncates one. If another program truncates the file while it is mapped, the next read
//! of a lost page ends the process with SIGBUS, which cannot be turned into an error; the store detects the damage in the next run.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use contract::{Fact, Facts, InputTree, Result, StageError};
use memmap2::Mmap;

/// The file's first bytes.
pub const MAGIC: [u8; 8] = *b"plTokens";
/// The version of the format.
pub const VERSION: u32 = 1;
/// The number of bytes before the first id; a multiple of 64, so that the ids are aligned.
pub const HEADER_SIZE: usize = 64;
/// The file's path in a tree of type `tokens`.
pub const FILE: &str = "tokens.bin";

/// The counts of a packed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The size of the vocabulary: every id is below it.
    pub vocabulary: u32,
    /// The id that follows every document.
    pub end_of_text: u32,
    /// The number of tokens per sequence.
    pub sequence_length: u64,
    /// The number of sequences.
    pub sequences: u64,
    /// The number of packed documents.
    pub documents: u64,
    /// The number of bytes of text that the ids decode to, without end-of-text tokens.
    pub text_bytes: u64,
}

impl Header {
    /// Returns the number of bytes per id.
    pub fn width(&self) -> usize {
        if self.vocabulary <= 1 << 16 { 2 } else { 4 }
    }

    /// Returns the size of the whole file in bytes; `None` if it does not fit into 64 bits.
    pub fn file_size(&self) -> Option<u64> {
        let tokens = self.sequences.checked_mul(self.sequence_length)?;
        tokens.checked_mul(self.width() as u64)?.checked_add(HEADER_SIZE as u64)
    }

    fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        let narrow = [VERSION, self.width() as u32, self.vocabulary, self.end_of_text];
        for (place, value) in bytes[8..24].chunks_exact_mut(4).zip(narrow) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        let wide = [self.sequence_length, self.sequences, self.documents, self.text_bytes];
        for (place, value) in bytes[24..56].chunks_exact_mut(8).zip(wide) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let Some(bytes) = bytes.first_chunk::<HEADER_SIZE>() else {
            return Err(malformed("it ends inside its header"));
        };
        if bytes[..8] != MAGIC {
            return Err(malformed("it does not start with the magic bytes"));
        }
        let narrow = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let wide = |at: usize| u64::from(narrow(at)) | u64::from(narrow(at + 4)) << 32;
        if narrow(8) != VERSION {
            return Err(malformed(&format!("its version is {}, but this program reads version {VERSION}", narrow(8))));
        }
        let header = Self {
            vocabulary: narrow(16),
            end_of_text: narrow(20),
            sequence_length: wide(24),
            sequences: wide(32),
            documents: wide(40),
            text_bytes: wide(48),
        };
        header.check()?;
        if header.encode() != *bytes {
            return Err(malformed("its header is invalid"));
        }
        Ok(header)
    }

    fn check(&self) -> Result<()> {
        if self.end_of_text >= self.vocabulary {
            return Err(malformed("its end-of-text token is outside the vocabulary"));
        }
        if self.sequence_length == 0 {
            return Err(malformed("its sequence length is 0"));
        }
        Ok(())
    }
}

/// Appends ids in the encoding of the file, `width` bytes each; 2 only if every id is below 65,536.
pub(crate) fn encode_ids(ids: &[u32], width: usize, into: &mut Vec<u8>) {
    match width {
        2 => into.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
        _ => into.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
    }
}

/// Decodes these bytes of the file and appends their ids.
pub(crate) fn decode_ids(bytes: &[u8], width: usize, into: &mut Vec<u32>) {
    match width {
        2 => into.extend(bytes.chunks_exact(2).map(|id| u32::from(u16::from_le_bytes([id[0], id[1]])))),
        _ => into.extend(bytes.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]))),
    }
}

fn malformed(problem: &str) -> StageError {
    StageError::new(format!("{FILE} is not a file of packed tokens: {problem}"))
}

/// Checks that a file has a header of this format and the size that it declares. The ids are not read.
///
/// # Errors
/// Returns an error if it does not, or cannot be read.
pub fn check_file(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let mut bytes = [0; HEADER_SIZE];
    file.read_exact(&mut bytes).map_err(|_| malformed("it ends inside its header"))?;
    let (header, size) = (Header::decode(&bytes)?, file.metadata()?.len());
    match header.file_size() {
        Some(expected) if expected == size => Ok(()),
        Some(expected) => Err(malformed(&format!("it has {size} bytes, but its header says {expected}"))),
        None => Err(malformed("its header promises more bytes than a file can have")),
    }
}

/// Packed tokens of an input tree, read through a memory map. They are cheap to share between threads.
#[derive(Debug)]
pub struct PackedTokens {
    map: Mmap,
    header: Header,
}

impl PackedTokens {
    /// Opens the `tokens.bin` of a tree of type `tokens`.
    ///
    /// # Errors
    /// Returns an error if the tree has none, it cannot be mapped, or its header and size do not agree.
    pub fn open(tree: &InputTree) -> Result<Self> {
        let input = tree.required(FILE)?;
        let file = File::open(&input.location).map_err(|error| StageError::io(format!("open {FILE}"), &error))?;
        // SAFETY: a file of an input tree is immutable: the store makes it read-only once it is written and never changes or truncates it,
        // so the bytes of the map do not change while the map exists.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| StageError::io(format!("map {FILE}"), &error))?;
        let header = Header::decode(&map)?;
        match header.file_size() {
            Some(size) if size == map.len() as u64 => Ok(Self { map, header }),
            Some(size) => Err(malformed(&format!("it has {} bytes, but its header says {size}", map.len()))),
            None => Err(malformed("its header promises more bytes than a file can have")),
        }
    }

    /// Returns all counts of the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the number of sequences.
    pub fn sequences(&self) -> usize {
        self.header.sequences as usize
    }

    /// Returns the facts of packed tokens in a tree; no facts if they cannot be read.
    pub fn facts(tree: &InputTree) -> Facts {
        let Ok(Self { header, .. }) = Self::open(tree) else { return Facts::default() };
        let fact = |value: u64| Some(Fact::own(value, ""));
        let (vocabulary, sequences) = (fact(header.vocabulary.into()), fact(header.sequences));
        Facts { vocabulary, sequence_length: fact(header.sequence_length), sequences, ..Facts::default() }
    }

    /// Returns the number of tokens per sequence.
    pub fn sequence_length(&self) -> usize {
        self.header.sequence_length as usize
    }

    /// Returns the size of the vocabulary: every id is below it.
    pub fn vocabulary(&self) -> u32 {
        self.header.vocabulary
    }

    /// Returns the id that follows every document.
    pub fn end_of_text(&self) -> u32 {
        self.header.end_of_text
    }

    /// Returns the number of bytes of text that all sequences decode to, without end-of-text tokens: the denominator of bits per byte.
    pub fn text_bytes(&self) -> u64 {
        self.header.text_bytes
    }

    /// Appends the `sequence_length` ids of a sequence (from 0) to `into`.
    ///
    /// # Errors
    /// Returns an error if there is no such sequence, or an id is outside the vocabulary (`into` is then unchanged).
    pub fn read(&self, sequence: usize, into: &mut Vec<u32>) -> Result<()> {
        if sequence >= self.sequences() {
            return Err(StageError::new(format!("there is no sequence {sequence}: {FILE} has {}", self.sequences())));
        }
        // Cannot overflow: open() compared the product of all these with the size of the map.
        let size = self.sequence_length() * self.header.width();
        let bytes = &self.map[HEADER_SIZE + sequence * size..][..size];
        let before = into.len();
        decode_ids(bytes, self.header.width(), into);
        let highest = into[before..].iter().copied().max().unwrap_or(0);
        if highest >= self.header.vocabulary {
            into.truncate(before);
            return Err(malformed(&format!(
                "sequence {sequence} contains id {highest}, outside the vocabulary of {}",
                self.header.vocabulary
            )));
        }
        Ok(())
    }
}

/// Writes a packed file whose counts are known before its first id.
#[derive(Debug)]
pub struct PackedWriter<W> {
    inner: W,
    header: Header,
    left: u64,
    bytes: Vec<u8>,
}

impl<W: Write> PackedWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Returns an error if the counts are invalid or `inner` cannot be written.
    pub fn new(mut inner: W, header: Header) -> Result<Self> {
        header.check()?;
        header.file_size().ok_or_else(|| malformed("its header promises more bytes than a file can have"))?;
        inner.write_all(&header.encode())?;
        Ok(Self { inner, header, left: header.sequences * header.sequence_length, bytes: Vec::new() })
    }

    /// Writes the next ids; sequences may be split over calls anywhere.
    ///
    /// # Errors
    /// Returns an error if an id is outside the vocabulary, there are more ids than the header declares, or `inner` cannot be written.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id >= self.header.vocabulary) {
            return Err(malformed(&format!("id {id} is outside the vocabulary of {}", self.header.vocabulary)));
        }
        let more = || malformed("more ids were written than its header says");
        self.left = self.left.checked_sub(ids.len() as u64).ok_or_else(more)?;
        self.bytes.clear();
        encode_ids(ids, self.header.width(), &mut self.bytes);
        self.inner.write_all(&self.bytes)?;
        Ok(())
    }

    /// Finishes the file and returns `inner`.
    ///
    /// # Errors
    /// Returns an error if fewer ids were written than the header declares, or `inner` cannot be flushed.
    pub fn finish(mut self) -> Result<W> {
        if self.left > 0 {
            return Err(malformed(&format!("{} of the ids that its header declares are missing", self.left)));
        }
        self.inner.flush()?;
        Ok(self.inner)
    }
}
