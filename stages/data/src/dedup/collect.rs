//! Takes documents from the readers of the parts and ends with all of them in the order in which they are decided.
//!
//! Token sets go to one file as they come, records to a [`Sorter`]. Where a set lies depends on the threads; nothing that
//! leaves the stage does.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use contract::Result;

use super::bands::Bands;
use super::fingerprint::Exact;
use super::positioned::write_at;
use super::preference::{Preference, Traits};
use super::ranked::Ranked;
use super::record::{Document, Layout, SetPlace};
use super::signature::signature;
use super::sort::Sorter;
use super::tokens::{Tokens, set_hash};
use super::workshop::Workshop;

/// Elements and documents that a reader gathers before it hands them over.
const ELEMENTS: usize = 1 << 17;
const DOCUMENTS: usize = 1 << 11;

/// How documents are looked at.
#[derive(Debug, Clone)]
pub struct Lens {
    /// Which are exact duplicates.
    pub exact: Exact,
    /// Tokens of an element of the set.
    pub shingle: usize,
    /// Tokens, repetitions among them, under which a document has no near-duplicates.
    pub min_tokens: usize,
    /// Bands of the signatures.
    pub bands: Bands,
    /// Which copy is kept.
    pub prefer: Vec<Preference>,
}

impl Lens {
    /// The layout of the records.
    pub fn layout(&self) -> Layout {
        Layout { keys: self.prefer.len(), bands: self.bands.bands }
    }
}

/// Shared by the readers.
#[derive(Debug)]
pub struct Collector<'a> {
    lens: &'a Lens,
    workshop: &'a Workshop,
    sets: File,
    elements: AtomicU64,
    sorter: Mutex<Sorter>,
}

impl<'a> Collector<'a> {
    /// Collects in half of the workshop's memory.
    ///
    /// # Errors
    /// When the file of the sets cannot be made.
    pub fn new(lens: &'a Lens, workshop: &'a Workshop) -> Result<Self> {
        let sets = workshop.create("sets")?;
        let sorter = Sorter::new(workshop, "documents", lens.layout().width(), 2);
        Ok(Self { lens, workshop, sets, elements: AtomicU64::new(0), sorter: Mutex::new(sorter) })
    }

    /// A reader of its own for one thread.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            collector: self,
            tokens: Tokens::new(self.lens.shingle),
            buffer: Vec::new(),
            sets: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// All documents, in order.
    ///
    /// # Errors
    /// When the scratch folder cannot be written or read, or the stage was asked to stop.
    pub fn finish(self) -> Result<Ranked> {
        let sorter = self.sorter.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ranked::write(sorter.finish()?, self.lens.layout(), self.sets, self.workshop)
    }
}

/// Looks at documents, one after another.
#[derive(Debug)]
pub struct Reader<'a> {
    collector: &'a Collector<'a>,
    tokens: Tokens,
    buffer: Vec<u8>,
    sets: Vec<u64>,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    keys: Vec<u64>,
    document: Document,
    buckets: Vec<u64>,
}

impl Reader<'_> {
    /// Adds the document with this number in the table.
    ///
    /// # Errors
    /// When the scratch folder cannot be written, or the stage was asked to stop.
    pub fn add(&mut self, number: u32, id: [u8; 32], traits: &Traits, content: &str) -> Result<()> {
        let lens = self.collector.lens;
        self.tokens.read(content);
        let set = self.tokens.set();
        let comparable = self.tokens.count() >= lens.min_tokens && !set.is_empty();
        let buckets = if comparable { lens.bands.keys(&signature(set)).collect() } else { Vec::new() };
        let document = Document {
            id,
            number,
            fingerprint: lens.exact.fingerprint(content, &mut self.buffer),
            set_hash: set_hash(set),
            // A set of u32::MAX elements needs a document of 8 GiB, more than a Parquet value holds.
            set: SetPlace { start: self.sets.len() as u64, length: set.len() as u32 },
            license: traits.license,
            comparable,
        };
        self.sets.extend_from_slice(set);
        let keys = lens.prefer.iter().map(|key| key.of(traits)).collect();
        self.pending.push(Pending { keys, document, buckets });
        if self.sets.len() < ELEMENTS && self.pending.len() < DOCUMENTS { Ok(()) } else { self.flush() }
    }

    /// Hands over what was gathered; to be called after the last document.
    ///
    /// # Errors
    /// As [`Reader::add`].
    pub fn flush(&mut self) -> Result<()> {
        let collector = self.collector;
        let base = collector.elements.fetch_add(self.sets.len() as u64, Ordering::Relaxed);
        let bytes: Vec<u8> = self.sets.iter().flat_map(|element| element.to_le_bytes()).collect();
        write_at(&collector.sets, &bytes, 8 * base)?;
        self.sets.clear();
        let layout = collector.lens.layout();
        let mut records = Vec::with_capacity(self.pending.len() * layout.width());
        for Pending { keys, mut document, buckets } in self.pending.drain(..) {
            document.set.start += base;
            layout.write(&mut records, keys.into_iter(), &document, &buckets);
        }
        collector.sorter.lock().unwrap_or_else(PoisonError::into_inner).push(&records)
    }
}
