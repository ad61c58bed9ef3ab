//! Sorts any number of fixed-width records in bounded memory: an external merge sort with runs in the scratch directory.
//!
//! Records are compared as byte strings, so numbers in them are big-endian. Equal records are interchangeable, hence the output depends on
//! the records alone, not on the order in which threads added them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use contract::{Cancel, Result};
use rayon::slice::ParallelSliceMut;

use super::scratch::Scratch;

/// The number of runs, each an open file, that are merged at once; if there are more, some are first merged into one.
const FAN_IN: usize = 32;
/// The additional bytes per record while its run is sorted: a prefix and an index, padded.
const OVERHEAD: usize = 16;

/// Accepts records in any order.
#[derive(Debug)]
pub struct Sorter {
    scratch: Scratch,
    name: &'static str,
    width: usize,
    /// The number of records in one run.
    capacity: usize,
    buffer: Vec<u8>,
    runs: Vec<PathBuf>,
    made: usize,
}

/// An iterator over the records in order.
#[derive(Debug)]
pub struct Sorted {
    width: usize,
    source: Source,
    current: Vec<u8>,
    given: u64,
    cancel: Cancel,
}

#[derive(Debug)]
enum Source {
    Memory { buffer: Vec<u8>, order: Vec<(u64, u32)>, next: usize },
    Runs { heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>, readers: Vec<Run> },
}

/// A sorted run on disk, removed when it has been read.
#[derive(Debug)]
struct Run {
    reader: BufReader<File>,
    path: PathBuf,
}

impl Drop for Run {
    fn drop(&mut self) {
        // A leftover run only uses disk space; the scratch directory is emptied by the next run of the stage.
        let _ = fs::remove_file(&self.path);
    }
}

impl Sorter {
    /// Creates a sorter of records of `width` bytes that uses a `share`-th of the memory. No other sorter may have the same `name`.
    pub fn new(scratch: &Scratch, name: &'static str, width: usize, share: u64) -> Self {
        let capacity = scratch.memory / share / (width + OVERHEAD) as u64;
        Self {
            scratch: scratch.clone(),
            name,
            width,
            capacity: capacity.clamp(16, u64::from(u32::MAX)) as usize,
            buffer: Vec::new(),
            runs: Vec::new(),
            made: 0,
        }
    }

    /// Adds records, which follow each other in `records`.
    ///
    /// # Errors
    /// Returns an error if a run cannot be written, or the stage was asked to stop.
    pub fn push(&mut self, records: &[u8]) -> Result<()> {
        debug_assert_eq!(records.len() % self.width, 0);
        for record in records.chunks_exact(self.width) {
            if self.buffer.len() == self.capacity * self.width {
                self.spill()?;
            }
            self.buffer.extend_from_slice(record);
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.scratch.cancel.check()?;
        if self.runs.len() == FAN_IN {
            let mut merged = self.merge()?;
            let path = self.write(|writer| {
                while let Some(record) = merged.next()? {
                    writer.write_all(record)?;
                }
                Ok(())
            })?;
            self.runs.push(path);
        }
        let order = self.order();
        let (buffer, width) = (std::mem::take(&mut self.buffer), self.width);
        let path = self.write(|writer| {
            let mut records = order.iter().map(|&(_, index)| &buffer[index as usize * width..][..width]);
            Ok(records.try_for_each(|record| writer.write_all(record))?)
        })?;
        self.runs.push(path);
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write(&mut self, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<PathBuf> {
        let path = self.scratch.folder.join(format!("{}.{}.run", self.name, self.made));
        self.made += 1;
        let mut writer = BufWriter::with_capacity(1 << 18, File::create(&path)?);
        fill(&mut writer)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(path)
    }

    /// Returns the positions of the records in order, each with its first eight bytes, which decide most comparisons.
    fn order(&self) -> Vec<(u64, u32)> {
        let width = self.width;
        let prefix = |record: &[u8]| {
            let mut prefix = [0; 8];
            let length = width.min(8);
            prefix[..length].copy_from_slice(&record[..length]);
            u64::from_be_bytes(prefix)
        };
        let records = self.buffer.chunks_exact(width).zip(0u32..);
        let mut order: Vec<_> = records.map(|(record, index)| (prefix(record), index)).collect();
        let record = |index: u32| &self.buffer[index as usize * width..][..width];
        self.scratch.pool.install(|| {
            order.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| record(a.1).cmp(record(b.1))));
        });
        order
    }

    /// Merges all existing runs.
    fn merge(&mut self) -> Result<Sorted> {
        let open = |path: PathBuf| Ok(Run { reader: BufReader::with_capacity(1 << 17, File::open(&path)?), path });
        let mut readers = self.runs.drain(..).map(open).collect::<io::Result<Vec<_>>>()?;
        let mut heads = BinaryHeap::with_capacity(readers.len());
        for (index, run) in readers.iter_mut().enumerate() {
            let mut record = vec![0; self.width];
            if fill(&mut run.reader, &mut record)? {
                heads.push(Reverse((record, index)));
            }
        }
        Ok(self.sorted(Source::Runs { heads, readers }))
    }

    fn sorted(&self, source: Source) -> Sorted {
        let cancel = self.scratch.cancel.clone();
        Sorted { width: self.width, source, current: Vec::new(), given: 0, cancel }
    }

    /// Ends the input.
    ///
    /// # Errors
    /// Returns an error if a run cannot be written or read, or the stage was asked to stop.
    pub fn finish(mut self) -> Result<Sorted> {
        if self.runs.is_empty() {
            let order = self.order();
            let buffer = std::mem::take(&mut self.buffer);
            return Ok(self.sorted(Source::Memory { buffer, order, next: 0 }));
        }
        self.spill()?;
        drop(std::mem::take(&mut self.buffer));
        self.merge()
    }
}

impl Sorted {
    /// Returns the next record.
    ///
    /// # Errors
    /// Returns an error if a run cannot be read, or the stage was asked to stop.
    // Not an `Iterator`: the record is borrowed until the next call, so that none is allocated.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<&[u8]>> {
        self.given += 1;
        if self.given.is_multiple_of(1 << 16) {
            self.cancel.check()?;
        }
        match &mut self.source {
            Source::Memory { buffer, order, next } => {
                let Some(&(_, index)) = order.get(*next) else { return Ok(None) };
                *next += 1;
                Ok(Some(&buffer[index as usize * self.width..][..self.width]))
            }
            Source::Runs { heads, readers } => {
                let Some(mut head) = heads.peek_mut() else { return Ok(None) };
                self.current.clone_from(&head.0.0);
                let run = head.0.1;
                if !fill(&mut readers[run].reader, &mut head.0.0)? {
                    PeekMut::pop(head);
                }
                Ok(Some(&self.current))
            }
        }
    }
}

/// Reads one record; returns false at the end of the run.
fn fill(reader: &mut BufReader<File>, record: &mut [u8]) -> io::Result<bool> {
    if reader.fill_buf()?.is_empty() {
        return Ok(false);
    }
    reader.read_exact(record)?;
    Ok(true)
}
