//! All documents in the order in which they are decided. A document's position in this order is its *rank*.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use contract::{Result, StageError};

use super::positioned::read_at;
use super::record::{DocumentRecord, Layout, SetPlace};
use super::scratch::Scratch;
use super::sort::Sorted;

/// The number of records that are read at once.
const CHUNK: u32 = 4096;

/// Records by rank and token sets, both in the scratch directory.
#[derive(Debug)]
pub struct Ranked {
    layout: Layout,
    records: File,
    sets: File,
    length: u32,
}

impl Ranked {
    /// Writes sorted records.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be written or read, or there are more than 2^32 - 2 documents.
    pub fn write(mut sorted: Sorted, layout: Layout, sets: File, scratch: &Scratch) -> Result<Self> {
        let mut writer = BufWriter::with_capacity(1 << 18, scratch.create("ranked")?);
        let mut length = 0u32;
        while let Some(record) = sorted.next()? {
            writer.write_all(record)?;
            // One rank is unused so that `rank + 1` always fits into 32 bits.
            length = length.checked_add(1).filter(|&length| length < u32::MAX).ok_or_else(|| {
                StageError::new("more than 4,294,967,294 documents").hint("deduplicate the shards in several stages")
            })?;
        }
        let records = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { layout, records, sets, length })
    }

    /// Returns the number of documents.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Returns the layout of [`Ranked::records`].
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Reads the records of `count` ranks from `first` into `buffer`, replacing its content.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn records(&self, first: u32, count: u32, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.resize(count as usize * self.layout.width(), 0);
        read_at(&self.records, buffer, u64::from(first) * self.layout.width() as u64)
    }

    /// Calls `each` with the rank, document and record of each document, in order, and counts them as progress.
    ///
    /// # Errors
    /// Returns an error of `each`, an error if the scratch directory cannot be read, or an error if the stage was asked to stop.
    pub fn each(
        &self,
        scratch: &Scratch,
        mut each: impl FnMut(u32, DocumentRecord, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut buffer, mut first) = (Vec::new(), 0);
        while first < self.length {
            scratch.cancel.check()?;
            let count = CHUNK.min(self.length - first);
            self.records(first, count, &mut buffer)?;
            for (rank, record) in (first..).zip(buffer.chunks_exact(self.layout.width())) {
                each(rank, self.layout.read(record), record)?;
            }
            scratch.progress.add(u64::from(count));
            first += count;
        }
        Ok(())
    }

    /// Returns the document of one rank.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn document(&self, rank: u32) -> io::Result<DocumentRecord> {
        let mut buffer = Vec::new();
        self.records(rank, 1, &mut buffer)?;
        Ok(self.layout.read(&buffer))
    }

    /// Reads a token set into `set`, replacing its content.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn set(&self, place: SetPlace, set: &mut Vec<u64>, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(8 * place.length as usize, 0);
        read_at(&self.sets, bytes, 8 * place.start)?;
        set.clear();
        set.extend(bytes.as_chunks::<8>().0.iter().map(|&element| u64::from_le_bytes(element)));
        Ok(())
    }
}
