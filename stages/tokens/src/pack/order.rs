//! The order of the documents of a split, in bounded memory.
//!
//! Each document is a fixed-size record in a scratch file, in any order. Records are returned sorted by key, then id: each pass over the
//! file selects as many of the next records as fit in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use contract::{Digest, Result};

/// The size of a record on disk, in bytes, and approximately in memory.
const RECORD_BYTES: usize = 64;

/// The position of a document's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The key by which the documents are sorted.
    pub key: u64,
    /// The document.
    pub id: Digest,
    /// The number of the file of tokens.
    pub part: u32,
    /// The first token in that file.
    pub start: u64,
    /// The number of tokens, including the end-of-text token.
    pub tokens: u64,
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.key.to_le_bytes());
        bytes[8..40].copy_from_slice(self.id.as_bytes());
        bytes[40..48].copy_from_slice(&self.start.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.part.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Self {
        let number = |at: usize| std::array::from_fn(|index| bytes[at + index]);
        Self {
            key: u64::from_le_bytes(number(0)),
            id: Digest::from_bytes(std::array::from_fn(|index| bytes[8 + index])),
            part: u32::from_le_bytes(std::array::from_fn(|index| bytes[56 + index])),
            start: u64::from_le_bytes(number(40)),
            tokens: u64::from_le_bytes(number(48)),
        }
    }
}

/// Writes records from many threads to a file.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Mutex<(BufWriter<File>, u64)>,
}

impl Recorder {
    /// Creates the file.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self { path: path.to_owned(), file: Mutex::new((file, 0)) })
    }

    /// Adds records.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub fn add(&self, records: &[Record]) -> Result<()> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, count) = &mut *guard;
        for record in records {
            file.write_all(&record.encode())?;
        }
        *count += records.len() as u64;
        Ok(())
    }

    /// Calls `each` with all records in order, with about `memory` bytes of them in memory at a time.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, and the errors of `each`.
    pub fn in_order(self, memory: u64, mut each: impl FnMut(&Record) -> Result<()>) -> Result<()> {
        let (mut file, count) = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        file.flush()?;
        let at_a_time = (memory / RECORD_BYTES as u64).max(1024).min(count.max(1)) as usize;
        let (mut given, mut after) = (0, None::<Record>);
        while given < count {
            let mut slice: Vec<Record> = Vec::new();
            let mut input = BufReader::with_capacity(1 << 20, File::open(&self.path)?);
            for _ in 0..count {
                let mut bytes = [0; RECORD_BYTES];
                input.read_exact(&mut bytes)?;
                let record = Record::decode(&bytes);
                if after.is_none_or(|after| record > after) {
                    slice.push(record);
                }
                if slice.len() == 2 * at_a_time {
                    slice.select_nth_unstable(at_a_time - 1);
                    slice.truncate(at_a_time);
                }
            }
            slice.sort_unstable();
            slice.truncate(at_a_time);
            let Some(last) = slice.last() else { break };
            after = Some(*last);
            given += slice.len() as u64;
            slice.iter().try_for_each(&mut each)?;
        }
        Ok(())
    }
}
