//! Counts words exactly, in bounded memory.
//!
//! Words are counted in memory; when the counter exceeds its budget, it is written to a scratch file as a run, sorted by word, and emptied.
//! At the end the runs are merged, so counts are exact and words are sorted by their bytes, regardless of the budget, the threads and the
//! order of the texts.
//!
//! A word of more than [`PIECE_BYTES`] bytes is counted in pieces of that size, so that the memory of an entry is bounded:
//! such words (encoded data, lines of dashes) lead to no useful merge.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use contract::{Result, StageError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::splitter::words;

/// The length above which words are counted in pieces.
pub const PIECE_BYTES: usize = 64 << 10;
/// The memory of a counted word besides its bytes: its slot in the map, considering the load factor, and the allocation.
const ENTRY_BYTES: usize = 64;
/// The number of runs, each an open file, that are merged at once; if there are more, some are first merged into one.
const FAN_IN: usize = 32;

/// A fast hash of words and pairs of ids; no output depends on it.
pub type Hasher = BuildHasherDefault<FastHasher>;

/// See [`Hasher`].
#[derive(Debug, Default, Clone, Copy)]
pub struct FastHasher(u64);

impl std::hash::Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing; the upper half of the product is well mixed.
        let product = u128::from(self.0.rotate_left(23) ^ number) * 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn write_usize(&mut self, number: usize) {
        self.0 ^= number as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Words with their counts, in memory.
#[derive(Debug, Default)]
pub struct Counter {
    words: HashMap<Box<[u8]>, u64, Hasher>,
    bytes: usize,
}

impl Counter {
    /// Counts the words of a text.
    pub fn count(&mut self, text: &str) {
        for word in words(text) {
            for piece in word.as_bytes().chunks(PIECE_BYTES) {
                self.add(piece, 1);
            }
        }
    }

    fn add(&mut self, word: &[u8], count: u64) {
        match self.words.get_mut(word) {
            Some(counted) => *counted += count,
            None => {
                self.bytes += word.len() + ENTRY_BYTES;
                self.words.insert(word.into(), count);
            }
        }
    }

    /// Returns the approximate bytes of memory that it uses.
    pub fn memory(&self) -> usize {
        self.bytes
    }

    fn sorted(self) -> Vec<(Box<[u8]>, u64)> {
        let mut words: Vec<_> = self.words.into_iter().collect();
        words.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        words
    }
}

/// The merged counters, in memory and on disk.
#[derive(Debug)]
pub struct WordCounts {
    counter: Counter,
    budget: usize,
    folder: PathBuf,
    runs: Vec<PathBuf>,
    /// The number of runs written so far.
    made: usize,
}

impl WordCounts {
    /// Creates counts that use about `budget` bytes of memory; runs are written to `folder`, which must exist.
    pub fn new(folder: &Path, budget: usize) -> Self {
        Self { counter: Counter::default(), budget, folder: folder.to_owned(), runs: Vec::new(), made: 0 }
    }

    /// Adds a counter's words and empties the counter.
    ///
    /// # Errors
    /// Returns an error if a run cannot be written.
    pub fn absorb(&mut self, counter: &mut Counter) -> Result<()> {
        for (word, count) in std::mem::take(counter).words {
            self.counter.add(&word, count);
        }
        if self.counter.memory() > self.budget { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        if self.runs.len() == FAN_IN {
            let (path, mut file) = self.create()?;
            let mut written = Ok(());
            self.merge(&[], |word, count| {
                if written.is_ok() {
                    written = write_word(&mut file, word, count);
                }
            })?;
            written.and_then(|()| file.flush())?;
            for merged in std::mem::replace(&mut self.runs, vec![path]) {
                std::fs::remove_file(merged)?;
            }
        }
        let (path, mut file) = self.create()?;
        for (word, count) in std::mem::take(&mut self.counter).sorted() {
            write_word(&mut file, &word, count)?;
        }
        file.flush()?;
        self.runs.push(path);
        Ok(())
    }

    fn create(&mut self) -> std::io::Result<(PathBuf, BufWriter<File>)> {
        let path = self.folder.join(format!("words-{}", self.made));
        self.made += 1;
        let file = BufWriter::new(File::create(&path)?);
        Ok((path, file))
    }

    /// Returns the words that training keeps: the most frequent ones (ties: the first by their bytes), until
    /// their total size is `limit`.
    ///
    /// # Errors
    /// Returns an error if a run cannot be read.
    pub fn finish(mut self, limit: u64) -> Result<CountedWords> {
        if !self.runs.is_empty() {
            self.spill()?;
        }
        let last = std::mem::take(&mut self.counter).sorted();
        let (mut by_count, mut all) = (BTreeMap::<u64, u64>::new(), CountedWords::default());
        self.merge(&last, |word, count| {
            *by_count.entry(count).or_default() += word.len() as u64;
            all.distinct += 1;
            all.total += count;
        })?;
        // The count at which the limit is reached, and the remaining bytes for words with exactly that count.
        let (mut least, mut left) = (0, limit);
        for (count, bytes) in by_count.iter().rev() {
            if *bytes > left {
                least = *count;
                break;
            }
            left -= bytes;
        }
        self.merge(&last, |word, count| {
            if count > least {
                all.push(word, count);
            } else if count == least && word.len() as u64 <= left {
                left -= word.len() as u64;
                all.push(word, count);
            } else {
                left = if count == least { 0 } else { left };
            }
        })?;
        Ok(all)
    }

    /// Calls a function with each word and its count over all runs, sorted by word.
    fn merge(&self, last: &[(Box<[u8]>, u64)], mut each: impl FnMut(&[u8], u64)) -> Result<()> {
        if self.runs.is_empty() {
            last.iter().for_each(|(word, count)| each(word, *count));
            return Ok(());
        }
        let mut runs = self.runs.iter().map(|path| Run::open(path)).collect::<Result<Vec<_>>>()?;
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next()?.map(|(word, count)| std::cmp::Reverse((word, number, count))));
        }
        let mut current: Option<(Vec<u8>, u64)> = None;
        while let Some(std::cmp::Reverse((word, number, count))) = heads.pop() {
            heads.extend(runs[number].next()?.map(|(word, count)| std::cmp::Reverse((word, number, count))));
            match &mut current {
                Some((same, total)) if *same == word => *total += count,
                _ => {
                    if let Some((word, count)) = current.replace((word, count)) {
                        each(&word, count);
                    }
                }
            }
        }
        if let Some((word, count)) = current {
            each(&word, count);
        }
        Ok(())
    }
}

impl Drop for WordCounts {
    fn drop(&mut self) {
        for run in &self.runs {
            // A run that cannot be removed is overwritten by the next one, or removed with the scratch directory.
            let _ = std::fs::remove_file(run);
        }
    }
}

/// Appends a word to a run.
fn write_word(file: &mut impl Write, word: &[u8], count: u64) -> std::io::Result<()> {
    // Words are at most PIECE_BYTES long.
    file.write_all(&(word.len() as u32).to_le_bytes())?;
    file.write_all(&count.to_le_bytes())?;
    file.write_all(word)
}

/// A sorted run on disk.
struct Run(BufReader<File>);

impl Run {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(BufReader::new(File::open(path)?)))
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        let mut head = [0; 12];
        if self.0.get_ref().metadata()?.len() == 0 || self.0.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        self.0.read_exact(&mut head[1..])?;
        let [l0, l1, l2, l3, count @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > PIECE_BYTES {
            return Err(StageError::new("a run of counted words is damaged"));
        }
        let mut word = vec![0; length];
        self.0.read_exact(&mut word)?;
        Ok(Some((word, u64::from_le_bytes(count))))
    }
}

/// Distinct words with their counts, sorted by bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CountedWords {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    counts: Vec<u64>,
    /// The number of distinct words, including those that are not kept.
    pub distinct: u64,
    /// The number of words, with repetitions.
    pub total: u64,
}

impl CountedWords {
    /// Adds a word, which must sort after all earlier words.
    pub fn push(&mut self, word: &[u8], count: u64) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
        self.counts.push(count);
    }

    /// Returns the number of words that are kept.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Returns whether no word is kept.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the size of all kept words, in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the count of the word at a position.
    pub fn weight(&self, position: usize) -> u64 {
        self.counts[position]
    }

    /// Returns the number of bytes of the words up to and including the one at a position.
    pub fn end(&self, position: usize) -> usize {
        self.ends[position]
    }

    /// Returns the words with their counts, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).zip(&self.counts).map(|((start, end), count)| (&self.bytes[start..*end], *count))
    }
}
