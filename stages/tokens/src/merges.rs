//! Learns the merges of byte-pair encoding from counted words (Sennrich et al., 2016).
//!
//! Each word is a sequence of symbols, initially its bytes. Repeatedly, the pair of adjacent symbols that occurs most often is replaced
//! everywhere by a new symbol, until the vocabulary is full. The exact rules:
//!
//! - a pair's count is the sum of the counts of its words, once for each occurrence in a word; counts are 64-bit, because 32 bits would
//!   overflow on some tens of gigabytes of code;
//! - ties go to the pair with the smaller left id, then to the smaller right id;
//! - within a word, pairs are merged from left to right;
//! - if two pairs spell the same string, it has one id, that of the first pair;
//! - a pair that is already a merge and occurs again because of such a second spelling is merged immediately, as encoding would do;
//! - a pair with more than [`Goal::max_length`] bytes in total is never merged.
//!
//! The result depends on the counts alone. It equals that of `BpeTrainer::do_train` of `tokenizers` if that does not overflow, no string is
//! spelled twice and no pair is too long; if a string is spelled twice, that trainer may rank a pair by its second merge.
//!
//! Cost: a merge visits the positions at which its pair was created, not the words that contain them, so a word of 64 KiB costs as much as
//! the same bytes in many short words. Over all merges, that is at most three visits for each byte of a distinct word.
//!
//! Memory: four bytes for each initial symbol (see [`Symbols`]), four for each position of a pair, about 60 for each pair and 16 each time
//! that it is queued: about 30 bytes for each byte of a distinct word of Python.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};

use contract::{Cancel, Progress, Result};

use crate::word_counts::{CountedWords, Hasher};

/// A pair of adjacent symbols.
pub type Pair = (u32, u32);

/// The limits of learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// The total number of ids, including those of the alphabet and of special tokens; below 2^31.
    pub vocabulary: u32,
    /// The minimum number of occurrences of a pair to merge; at least 1.
    pub min_frequency: u64,
    /// The maximum length of a token, in bytes.
    pub max_length: u32,
}

/// The result of learning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The bytes of each token after the alphabet, in order of ids.
    pub tokens: Vec<Vec<u8>>,
    /// The merges in order of rank: two ids.
    pub merges: Vec<Pair>,
    /// The number of occurrences of each id in the words at the end, by id.
    pub uses: Vec<u64>,
    /// See [`Goal::max_length`].
    pub max_length: u32,
    /// Whether a pair was not merged because its token would be longer.
    pub met_max_length: bool,
}

/// Learns merges until the vocabulary is full or no pair is frequent enough.
///
/// `alphabet` is the id of each byte; tokens get the ids from `first` on. The words have at most 2^31 bytes together.
/// `progress` counts ids, including the initial ones.
///
/// # Errors
/// Returns an error if the stage was asked to stop.
pub fn learn(
    words: &CountedWords,
    alphabet: &[u32; 256],
    first: u32,
    goal: Goal,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Learned> {
    let mut state = MergeState::new(words, alphabet, first, goal.max_length);
    let mut shown = 0;
    while state.next_id() < goal.vocabulary {
        let Some((count, Reverse(pair))) = state.queue.pop() else { break };
        let now = state.pairs.get(&pair).map_or(0, |occurrences| occurrences.count);
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
        state.merge(pair, id, cancel)?;
        progress.add(u64::from(state.next_id()) - shown);
        shown = u64::from(state.next_id());
    }
    Ok(state.finish())
}

/// The number of merged occurrences of a pair between two checks of the cancel flag.
const CHECK_EVERY: usize = 1 << 16;

/// The symbols of all words, in one slot for each byte and one before, between and after the words.
///
/// The first slot of a symbol contains its id; the last one, if it is a different slot, [`BACK`] and the symbol's length. The slots between
/// them contain no id. So both neighbours of a symbol can be found from its position, and a position that is no longer the start of a
/// symbol can be recognised.
#[derive(Debug)]
struct Symbols(Vec<u32>);

/// Marks the last slot of a symbol: the other bits are its length. No id has this bit.
const BACK: u32 = 1 << 31;
/// A slot inside a symbol, and a slot between words. No symbol has the length that these values would mean.
const INSIDE: u32 = u32::MAX - 1;
const BETWEEN: u32 = u32::MAX;

impl Symbols {
    fn at(&self, place: usize) -> u32 {
        self.0[place]
    }

    /// Returns the position of the symbol that ends before `place`, if any.
    fn before(&self, place: usize) -> Option<usize> {
        match self.0[place - 1] {
            BETWEEN => None,
            back if back & BACK != 0 => Some(place - (back & !BACK) as usize),
            _ => Some(place - 1),
        }
    }

    /// Merges the symbols at `left` and `right`; the new one ends before `end`.
    fn join(&mut self, left: usize, right: usize, end: usize, id: u32) {
        self.0[right] = INSIDE;
        self.0[end - 1] = BACK | (end - left) as u32;
        self.0[left] = id;
    }
}

/// The occurrences of a pair.
#[derive(Debug, Default)]
struct Occurrences {
    /// The count: each position counts as often as its word.
    count: u64,
    /// The positions at which it was created: those where it occurs, and some where it no longer does.
    places: Vec<u32>,
    /// The last merge that created an occurrence.
    grown_by: u32,
}

struct MergeState<'a> {
    counted: &'a CountedWords,
    symbols: Symbols,
    /// The word of the first slot of each [`BLOCK`].
    words: Vec<u32>,
    /// The pairs that occur and are not too long.
    pairs: HashMap<Pair, Occurrences, Hasher>,
    /// Pairs with their count when they were queued, which is never less than the current count.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    merged: HashMap<Pair, u32, Hasher>,
    merges: Vec<Pair>,
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32, Hasher>,
    /// The byte of each symbol of the alphabet.
    letters: HashMap<u32, u8, Hasher>,
    /// The length of each symbol, in bytes.
    lengths: Vec<u32>,
    first: u32,
    max_length: u32,
    met_max_length: bool,
    /// The merges so far, including repeated ones.
    step: u32,
}

/// The number of slots for which only the first word is stored; the others are found from it.
const BLOCK: usize = 16;

impl<'a> MergeState<'a> {
    fn new(counted: &'a CountedWords, alphabet: &[u32; 256], first: u32, max_length: u32) -> Self {
        let mut symbols = Vec::with_capacity(counted.byte_len() + counted.len() + 1);
        let mut words = Vec::with_capacity(symbols.capacity().div_ceil(BLOCK));
        symbols.push(BETWEEN);
        for ((word, _), number) in counted.iter().zip(0u32..) {
            symbols.extend(word.iter().map(|byte| alphabet[usize::from(*byte)]));
            symbols.push(BETWEEN);
            words.resize(symbols.len().div_ceil(BLOCK), number);
        }
        let mut state = Self {
            counted,
            symbols: Symbols(symbols),
            words,
            pairs: HashMap::default(),
            queue: BinaryHeap::new(),
            merged: HashMap::default(),
            merges: Vec::new(),
            tokens: Vec::new(),
            ids: HashMap::default(),
            letters: (0..=u8::MAX).map(|byte| (alphabet[usize::from(byte)], byte)).collect(),
            lengths: vec![1; first as usize],
            first,
            max_length,
            met_max_length: false,
            step: 0,
        };
        state.find_pairs();
        state
    }

    /// Finds the pairs of the alphabet. Counts them first, so that the longest lists of positions are allocated exactly.
    fn find_pairs(&mut self) {
        let starts = || (0u32..).zip(self.symbols.0.windows(2)).filter(|(_, pair)| !pair.contains(&BETWEEN));
        if self.max_length < 2 {
            self.met_max_length = starts().next().is_some();
            return;
        }
        let mut rooms: HashMap<Pair, usize, Hasher> = HashMap::default();
        starts().for_each(|(_, pair)| *rooms.entry((pair[0], pair[1])).or_default() += 1);
        let empty = |room| Occurrences { places: Vec::with_capacity(room), ..Occurrences::default() };
        let mut pairs: HashMap<_, _, Hasher> = rooms.into_iter().map(|(pair, room)| (pair, empty(room))).collect();
        for (place, pair) in starts() {
            let occurrences = pairs.entry((pair[0], pair[1])).or_default();
            occurrences.count += self.weight(place as usize);
            occurrences.places.push(place);
        }
        self.queue = pairs.iter().map(|(pair, occurrences)| (occurrences.count, Reverse(*pair))).collect();
        self.pairs = pairs;
    }

    /// Returns the count of the word that contains a position.
    fn weight(&self, place: usize) -> u64 {
        let mut word = self.words[place / BLOCK] as usize;
        // There is one slot before the first word and one after each word.
        while self.counted.end(word) + word < place {
            word += 1;
        }
        self.counted.weight(word)
    }

    fn next_id(&self) -> u32 {
        self.first + self.tokens.len() as u32
    }

    fn length(&self, id: u32) -> usize {
        self.lengths[id as usize] as usize
    }

    /// Returns the id of the string that a new merge spells.
    fn name(&mut self, pair: Pair) -> u32 {
        let bytes = |id: u32| match self.letters.get(&id) {
            Some(byte) => std::slice::from_ref(byte),
            None => &self.tokens[(id - self.first) as usize],
        };
        let bytes = [bytes(pair.0), bytes(pair.1)].concat();
        let next = self.next_id();
        let id = *self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.tokens.push(bytes.clone());
            self.lengths.push(bytes.len() as u32);
            next
        });
        self.merged.insert(pair, id);
        self.merges.push(pair);
        id
    }

    /// Merges `pair` into `id` wherever it occurs, and queues the pairs that this creates.
    fn merge(&mut self, pair: Pair, id: u32, cancel: &Cancel) -> Result<()> {
        let mut places = self.pairs.remove(&pair).unwrap_or_default().places;
        // They are in order unless the pair was created by several merges.
        if !places.is_sorted() {
            places.sort_unstable();
        }
        self.step += 1;
        let mut grown = Vec::new();
        let [left_length, length] = [self.length(pair.0), self.length(id)];
        for places in places.chunks(CHECK_EVERY) {
            cancel.check()?;
            for place in places.iter().map(|place| *place as usize) {
                let (right, end) = (place + left_length, place + length);
                if self.symbols.at(place) != pair.0 || self.symbols.at(right) != pair.1 {
                    continue;
                }
                let weight = self.weight(place);
                if let Some(before) = self.symbols.before(place) {
                    let symbol = self.symbols.at(before);
                    self.shrink((symbol, pair.0), weight);
                    self.grow((symbol, id), before, weight, &mut grown);
                }
                let after = self.symbols.at(end);
                if after != BETWEEN {
                    self.shrink((pair.1, after), weight);
                    self.grow((id, after), place, weight, &mut grown);
                }
                self.symbols.join(place, right, end, id);
            }
        }
        for pair in grown {
            let Some(occurrences) = self.pairs.get(&pair) else { continue };
            // A merge that occurs again takes precedence over all others.
            let count = if self.merged.contains_key(&pair) { u64::MAX } else { occurrences.count };
            self.queue.push((count, Reverse(pair)));
        }
        Ok(())
    }

    /// Removes a position from a pair. Pairs that are not counted are too long, or are being merged.
    fn shrink(&mut self, pair: Pair, weight: u64) {
        if let Entry::Occupied(mut entry) = self.pairs.entry(pair) {
            entry.get_mut().count -= weight;
            if entry.get().count == 0 {
                entry.remove();
            }
        }
    }

    /// Adds a position to a pair.
    fn grow(&mut self, pair: Pair, place: usize, weight: u64, grown: &mut Vec<Pair>) {
        if self.length(pair.0) + self.length(pair.1) > self.max_length as usize {
            self.met_max_length = true;
            return;
        }
        let occurrences = self.pairs.entry(pair).or_default();
        occurrences.count += weight;
        occurrences.places.push(place as u32);
        if occurrences.grown_by != self.step {
            occurrences.grown_by = self.step;
            grown.push(pair);
        }
    }

    fn finish(self) -> Learned {
        let mut uses = vec![0; self.next_id() as usize];
        let mut place = 1;
        for (word, weight) in self.counted.iter() {
            let end = place + word.len();
            while place < end {
                let id = self.symbols.at(place);
                uses[id as usize] += weight;
                place += self.length(id);
            }
            place += 1;
        }
        let Self { tokens, merges, max_length, met_max_length, .. } = self;
        Learned { tokens, merges, uses, max_length, met_max_length }
    }
}
