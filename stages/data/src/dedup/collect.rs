//! Collects documents from the readers of the parts and sorts them into the order in which they are decided.
//!
//! Token sets are appended to one file as they arrive, records go to a [`Sorter`]. The position of a set depends on the threads; no output
//! does.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use contract::Result;

use super::bands::Bands;
use super::fingerprint::Exact;
use super::positioned::write_at;
use super::preference::{Preference, Traits};
use super::ranked::Ranked;
use super::record::{DocumentRecord, Layout, SetPlace};
use super::scratch::Scratch;
use super::signature::signature;
use super::sort::Sorter;
use super::tokens::{Tokens, set_hash};

/// The number of elements and documents that a reader buffers before writing them.
const ELEMENTS: usize = 1 << 17;
const DOCUMENTS: usize = 1 << 11;

/// The settings that determine the fingerprint, token set and signature of a document, and the order of documents.
#[derive(Debug, Clone)]
pub struct SignatureSettings {
    /// The definition of exact duplicates.
    pub exact: Exact,
    /// The number of tokens in an element of the set.
    pub shingle: usize,
    /// The minimum number of tokens, with repetitions, for near-duplicates.
    pub min_tokens: usize,
    /// The bands of the signatures.
    pub bands: Bands,
    /// The order of preference among copies.
    pub prefer: Vec<Preference>,
}

impl SignatureSettings {
    /// Returns the layout of the records.
    pub fn layout(&self) -> Layout {
        Layout { keys: self.prefer.len(), bands: self.bands.bands }
    }
}

/// The files that all readers write to.
#[derive(Debug)]
pub struct Collector<'a> {
    settings: &'a SignatureSettings,
    scratch: &'a Scratch,
    sets: File,
    elements: AtomicU64,
    sorter: Mutex<Sorter>,
}

impl<'a> Collector<'a> {
    /// Creates a collector that uses half of `scratch.memory`.
    ///
    /// # Errors
    /// Returns an error if the file of the sets cannot be created.
    pub fn new(settings: &'a SignatureSettings, scratch: &'a Scratch) -> Result<Self> {
        let sets = scratch.create("sets")?;
        let sorter = Sorter::new(scratch, "documents", settings.layout().width(), 2);
        Ok(Self { settings, scratch, sets, elements: AtomicU64::new(0), sorter: Mutex::new(sorter) })
    }

    /// Returns a reader for one thread.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            collector: self,
            tokens: Tokens::new(self.settings.shingle),
            buffer: Vec::new(),
            sets: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Returns all documents, in order.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be written or read, or the stage was asked to stop.
    pub fn finish(self) -> Result<Ranked> {
        let sorter = self.sorter.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ranked::write(sorter.finish()?, self.settings.layout(), self.sets, self.scratch)
    }
}

/// Computes the records of documents, one after another.
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
    document: DocumentRecord,
    buckets: Vec<u64>,
}

impl Reader<'_> {
    /// Adds the document with this number in the table.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be written, or the stage was asked to stop.
    pub fn add(&mut self, number: u32, id: [u8; 32], traits: &Traits, content: &str) -> Result<()> {
        let settings = self.collector.settings;
        self.tokens.read(content);
        let set = self.tokens.set();
        let comparable = self.tokens.count() >= settings.min_tokens && !set.is_empty();
        let buckets = if comparable { settings.bands.keys(&signature(set)).collect() } else { Vec::new() };
        let document = DocumentRecord {
            id,
            number,
            fingerprint: settings.exact.fingerprint(content, &mut self.buffer),
            set_hash: set_hash(set),
            // A set of u32::MAX elements needs a document of 8 GiB, more than a Parquet value holds.
            set: SetPlace { start: self.sets.len() as u64, length: set.len() as u32 },
            license: traits.license,
            comparable,
        };
        self.sets.extend_from_slice(set);
        let keys = settings.prefer.iter().map(|key| key.of(traits)).collect();
        self.pending.push(Pending { keys, document, buckets });
        if self.sets.len() < ELEMENTS && self.pending.len() < DOCUMENTS { Ok(()) } else { self.flush() }
    }

    /// Writes the buffered documents. Call it after the last document.
    ///
    /// # Errors
    /// See [`Reader::add`].
    pub fn flush(&mut self) -> Result<()> {
        let collector = self.collector;
        let base = collector.elements.fetch_add(self.sets.len() as u64, Ordering::Relaxed);
        let bytes: Vec<u8> = self.sets.iter().flat_map(|element| element.to_le_bytes()).collect();
        write_at(&collector.sets, &bytes, 8 * base)?;
        self.sets.clear();
        let layout = collector.settings.layout();
        let mut records = Vec::with_capacity(self.pending.len() * layout.width());
        for Pending { keys, mut document, buckets } in self.pending.drain(..) {
            document.set.start += base;
            layout.write(&mut records, keys.into_iter(), &document, &buckets);
        }
        collector.sorter.lock().unwrap_or_else(PoisonError::into_inner).push(&records)
    }
}
