//! A document's token set: the distinct `[A-Za-z0-9_]+` tokens of its content, each as a 64-bit hash.
//!
//! Every other character separates tokens, as in CodeParrot's `re.split("[^A-Za-z_0-9]", content)` with empty tokens
//! left out. With `shingle = n > 1` the elements are the runs of `n` tokens; a document of fewer tokens is one run.
//!
//! A set is sorted and its sizes are exact unless two different tokens of a pair of documents share an xxh3 hash: for
//! `m` different tokens that is less likely than m² / 2^65 (`m` = 2,000: one pair in 9 * 10^12).

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The number of bytes that are tokenised at once.
const BLOCK: usize = 4096;

/// Computes the token sets of documents; reuses its buffers.
#[derive(Debug)]
pub struct Tokens {
    shingle: usize,
    /// The last `shingle` token hashes, as bytes, the oldest first.
    window: Vec<u8>,
    distinct: Distinct,
    set: Vec<u64>,
    count: usize,
}

impl Tokens {
    /// Creates a tokeniser whose elements are runs of `shingle` tokens (at least 1).
    pub fn new(shingle: usize) -> Self {
        Self { shingle, window: Vec::new(), distinct: Distinct::default(), set: Vec::new(), count: 0 }
    }

    /// Reads a document; [`Tokens::set`] and [`Tokens::count`] then return its values.
    pub fn read(&mut self, content: &str) {
        self.set.clear();
        self.window.clear();
        self.count = 0;
        self.distinct.clear();
        let bytes = content.as_bytes();
        // Token boundaries, a block of bytes at a time: always written, then kept or overwritten, because a branch
        // would be mispredicted at every boundary.
        let mut edges = [0u16; BLOCK + 1];
        let (mut inside, mut start) = (false, None);
        for (block, first) in bytes.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
            let mut count = 0;
            for (at, &byte) in (0u16..).zip(block) {
                let word = WORD[usize::from(byte)];
                edges[count] = at;
                count += usize::from(word != inside);
                inside = word;
            }
            for &edge in &edges[..count] {
                let edge = first + usize::from(edge);
                match start.take() {
                    Some(start) => self.token(xxh3_64(&bytes[start..edge])),
                    None => start = Some(edge),
                }
            }
        }
        if let Some(start) = start {
            self.token(xxh3_64(&bytes[start..]));
        }
        if self.shingle > 1 && (1..self.shingle).contains(&self.count) {
            self.element(xxh3_64(&self.window));
        }
        self.set.sort_unstable();
    }

    fn token(&mut self, hash: u64) {
        self.count += 1;
        if self.shingle == 1 {
            return self.element(hash);
        }
        if self.window.len() == 8 * self.shingle {
            self.window.drain(..8);
        }
        self.window.extend_from_slice(&hash.to_le_bytes());
        if self.window.len() == 8 * self.shingle {
            self.element(xxh3_64(&self.window));
        }
    }

    fn element(&mut self, hash: u64) {
        if self.distinct.insert(hash) {
            self.set.push(hash);
        }
    }

    /// Returns the distinct elements, sorted.
    pub fn set(&self) -> &[u64] {
        &self.set
    }

    /// Returns the number of tokens, with repetitions.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// Returns a hash that is equal for two documents exactly if their sets are equal (128 bits of xxh3 over the sorted
/// elements).
pub fn set_hash(set: &[u64]) -> [u8; 16] {
    let bytes: Vec<u8> = set.iter().flat_map(|element| element.to_le_bytes()).collect();
    xxh3_128(&bytes).to_be_bytes()
}

const WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        word[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'_';
        byte += 1;
    }
    word
};

/// A set of hashes with insertion only: most tokens of a document are repetitions, and looking them up here
/// is several times cheaper than sorting them.
#[derive(Debug, Default)]
struct Distinct {
    /// Open addressing with a power of two slots, at most half full; 0 marks a free slot.
    slots: Vec<u64>,
    length: usize,
    zero: bool,
}

impl Distinct {
    fn clear(&mut self) {
        // A table that one huge document has enlarged must not be cleared for each small document after it.
        if self.slots.len() > 1 << 12 && self.length < self.slots.len() / 16 {
            self.slots = Vec::new();
        }
        self.slots.fill(0);
        (self.length, self.zero) = (0, false);
    }

    /// Inserts a hash. Returns whether it was new.
    fn insert(&mut self, hash: u64) -> bool {
        if hash == 0 {
            return !std::mem::replace(&mut self.zero, true);
        }
        if 2 * (self.length + 1) > self.slots.len() {
            self.grow();
        }
        let fresh = place(&mut self.slots, hash);
        self.length += usize::from(fresh);
        fresh
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![0; (2 * old.len()).max(1 << 10)];
        for hash in old.into_iter().filter(|&hash| hash != 0) {
            place(&mut self.slots, hash);
        }
    }
}

fn place(slots: &mut [u64], hash: u64) -> bool {
    let mask = slots.len() - 1;
    let mut slot = hash as usize & mask;
    loop {
        match slots[slot] {
            0 => {
                slots[slot] = hash;
                return true;
            }
            found if found == hash => return false,
            _ => slot = (slot + 1) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shingle: usize, content: &str) -> (Vec<u64>, usize) {
        let mut tokens = Tokens::new(shingle);
        tokens.read("a b c d e f g"); // what came before must not matter
        tokens.read(content);
        (tokens.set().to_vec(), tokens.count())
    }

    #[test]
    fn tokens_are_words_digits_and_underscores() {
        assert_eq!(set(1, "é_a1(b)-_a1").0, set(1, "b _a1").0);
        assert_eq!(set(1, "x = x+x").1, 3);
        assert_eq!(set(1, " \n;é").0, Vec::<u64>::new());
    }

    #[test]
    fn tokens_cross_the_blocks_that_are_cut_at_once() {
        for before in BLOCK - 3..BLOCK + 3 {
            let content = format!("{}abc {}", " ".repeat(before), "d".repeat(2 * BLOCK));
            assert_eq!(set(1, &content), (set(1, &format!("abc {}", "d".repeat(2 * BLOCK))).0, 2));
        }
    }

    #[test]
    fn runs_of_tokens_keep_their_order() {
        assert_eq!(set(2, "a b c").0.len(), 2);
        assert_ne!(set(2, "a b c").0, set(2, "c b a").0);
        assert_eq!(set(3, "a b").0.len(), 1);
        assert_ne!(set(3, "a b").0, set(3, "b a").0);
        assert_eq!(set(3, "").0.len(), 0);
    }

    #[test]
    fn many_tokens_are_each_kept_once() {
        let words: Vec<String> = (0..5000).map(|i| format!("w{}", i % 3000)).collect();
        let (set, count) = set(1, &words.join(" "));
        assert_eq!((set.len(), count), (3000, 5000));
        assert!(set.is_sorted());
    }
}
