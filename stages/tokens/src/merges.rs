//! Learns the merges of byte-pair encoding from counted words (Sennrich et al., 2016).
//!
//! Each word is a sequence of symbols, at first its bytes. Again and again the pair of adjacent symbols that occurs most
//! often becomes a symbol of its own, everywhere, until the vocabulary is full. Exactly:
//!
//! - a pair's count is the sum of the counts of its words, for each place where it stands; counts are 64-bit, because
//!   32 bits overflow on some tens of gigabytes of code;
//! - of equal counts the pair with the smaller left id is taken, then the one with the smaller right id;
//! - within a word pairs are merged from left to right;
//! - two pairs may spell one string; it has one id, that of the first;
//! - a pair that is already a merge and comes up again by such a second spelling is merged at once, because encoding
//!   would do so.
//!
//! The result is a function of the counts alone. It is that of `BpeTrainer::do_train` of `tokenizers` where that does
//! not overflow and no string is spelled twice; where one is, that trainer may rank a pair by its second merge.
//!
//! Memory: some 10 bytes for each byte of a distinct word.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::ops::Range;

use contract::{Cancel, Progress, Result};

use crate::word_counts::{CountedWords, Hasher};

/// A pair of adjacent symbols.
pub type Pair = (u32, u32);

/// How long to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// Ids in all, those of the alphabet and of special tokens among them.
    pub vocabulary: u32,
    /// A pair that occurs less often is no merge; at least 1.
    pub min_frequency: u64,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The bytes of each token after the alphabet, in order of ids.
    pub tokens: Vec<Vec<u8>>,
    /// The merges in order of rank: two ids.
    pub merges: Vec<Pair>,
    /// How often each id stands in the words at the end, by id.
    pub uses: Vec<u64>,
}

/// Learns merges until the vocabulary is full or no pair is frequent enough.
///
/// `alphabet` is the id of each byte; ids from `first` on are given to tokens.
///
/// # Errors
/// That the stage was asked to stop.
pub fn learn(
    words: &CountedWords,
    alphabet: &[u32; 256],
    first: u32,
    goal: Goal,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Learned> {
    let mut state = State::new(words, alphabet, first);
    while state.next_id() < goal.vocabulary {
        let Some((count, Reverse(pair))) = state.queue.pop() else { break };
        let now = state.counts.get(&pair).copied().unwrap_or(0);
        let id = match state.merged.get(&pair) {
            _ if now == 0 => continue,
            Some(id) => *id,
            None if count != now => {
                state.queue.push((now, Reverse(pair)));
                continue;
            }
            None if now < goal.min_frequency => break,
            None => state.name(pair),
        };
        if state.merges.len().is_multiple_of(64) {
            cancel.check()?;
            progress.set(u64::from(state.next_id()));
        }
        state.merge(pair, id);
    }
    Ok(state.finish())
}

struct State<'a> {
    counted: &'a CountedWords,
    /// The symbols of all words; a word shrinks in its place.
    symbols: Vec<u32>,
    words: Vec<Range<usize>>,
    counts: HashMap<Pair, u64, Hasher>,
    /// The words that a pair stands in, or stood in.
    places: HashMap<Pair, Vec<u32>, Hasher>,
    /// Pairs by their count when they were queued: never less than it is now.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    merged: HashMap<Pair, u32, Hasher>,
    merges: Vec<Pair>,
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32, Hasher>,
    /// The byte of each symbol of the alphabet.
    letters: HashMap<u32, u8, Hasher>,
    first: u32,
}

impl<'a> State<'a> {
    fn new(counted: &'a CountedWords, alphabet: &[u32; 256], first: u32) -> Self {
        let mut symbols = Vec::with_capacity(counted.byte_len());
        let mut words = Vec::with_capacity(counted.len());
        let (mut counts, mut places) = (HashMap::<_, u64, _>::default(), HashMap::<_, Vec<u32>, _>::default());
        for (place, (word, weight)) in counted.iter().enumerate() {
            let start = symbols.len();
            symbols.extend(word.iter().map(|byte| alphabet[usize::from(*byte)]));
            words.push(start..symbols.len());
            for pair in symbols[start..].windows(2).map(|pair| (pair[0], pair[1])) {
                *counts.entry(pair).or_default() += weight;
                note(places.entry(pair).or_default(), place);
            }
        }
        Self {
            counted,
            symbols,
            words,
            queue: counts.iter().map(|(pair, count)| (*count, Reverse(*pair))).collect(),
            counts,
            places,
            merged: HashMap::default(),
            merges: Vec::new(),
            tokens: Vec::new(),
            ids: HashMap::default(),
            letters: (0..=u8::MAX).map(|byte| (alphabet[usize::from(byte)], byte)).collect(),
            first,
        }
    }

    fn next_id(&self) -> u32 {
        self.first + self.tokens.len() as u32
    }

    /// The id of the string that a new merge spells.
    fn name(&mut self, pair: Pair) -> u32 {
        let bytes = |id: u32| match self.letters.get(&id) {
            Some(byte) => std::slice::from_ref(byte),
            None => &self.tokens[(id - self.first) as usize],
        };
        let bytes = [bytes(pair.0), bytes(pair.1)].concat();
        let next = self.next_id();
        let id = *self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.tokens.push(bytes.clone());
            next
        });
        self.merged.insert(pair, id);
        self.merges.push(pair);
        id
    }

    /// Merges `pair` into `id` in every word, and queues the pairs that this makes.
    fn merge(&mut self, pair: Pair, id: u32) {
        let mut grown: HashSet<Pair, Hasher> = HashSet::default();
        for place in self.places.remove(&pair).unwrap_or_default() {
            let range = &mut self.words[place as usize];
            let word = &mut self.symbols[range.clone()];
            if !word.windows(2).any(|at| (at[0], at[1]) == pair) {
                continue;
            }
            let weight = self.counted.weight(place as usize);
            for old in word.windows(2) {
                if let Some(count) = self.counts.get_mut(&(old[0], old[1])) {
                    *count -= weight;
                }
            }
            let length = replace(word, pair, id);
            range.end = range.start + length;
            for new in word[..length].windows(2).map(|new| (new[0], new[1])) {
                *self.counts.entry(new).or_default() += weight;
                if new.0 == id || new.1 == id {
                    note(self.places.entry(new).or_default(), place as usize);
                    grown.insert(new);
                }
            }
        }
        self.counts.remove(&pair);
        for pair in grown {
            // A merge that comes up again goes before all others.
            let count = if self.merged.contains_key(&pair) { u64::MAX } else { self.counts[&pair] };
            self.queue.push((count, Reverse(pair)));
        }
    }

    fn finish(self) -> Learned {
        let mut uses = vec![0; self.next_id() as usize];
        for (place, word) in self.words.iter().enumerate() {
            for symbol in &self.symbols[word.clone()] {
                uses[*symbol as usize] += self.counted.weight(place);
            }
        }
        Learned { tokens: self.tokens, merges: self.merges, uses }
    }
}

/// Adds a word to the places of a pair. Repetitions within a word are left out; others cost a look, nothing more.
fn note(places: &mut Vec<u32>, place: usize) {
    // A place is the position of one of at most 2^32 distinct words: their bytes alone would take more than 4 GiB.
    let place = place as u32;
    if places.last() != Some(&place) {
        places.push(place);
    }
}

/// Replaces the pair by `id` from left to right; the new length of the word.
fn replace(word: &mut [u32], pair: Pair, id: u32) -> usize {
    let (mut read, mut write) = (0, 0);
    while read < word.len() {
        let found = read + 1 < word.len() && (word[read], word[read + 1]) == pair;
        word[write] = if found { id } else { word[read] };
        read += 1 + usize::from(found);
        write += 1;
    }
    write
}
