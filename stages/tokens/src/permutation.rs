//! A shuffle of `0..count` that needs no memory: a Feistel network of four rounds over the next even number of bits,
//! applied until the result is inside the range (Black and Rogaway, 2002).

use xxhash_rust::xxh3::xxh3_64_with_seed;

const ROUNDS: u64 = 4;

/// A bijection of `0..count`, fixed by a key.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    key: u64,
    count: u64,
    half_bits: u32,
}

impl Permutation {
    /// Creates the shuffle of `0..count` with this key.
    pub fn new(key: u64, count: u64) -> Self {
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Self { key, count, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Returns the image of `index`, which is below `count`.
    pub fn apply(&self, index: u64) -> u64 {
        debug_assert!(index < self.count);
        let mut image = self.network(index);
        // The network permutes its whole range, so the walk from an index below `count` returns to such an index.
        while image >= self.count {
            image = self.network(image);
        }
        image
    }

    fn network(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for round in 0..ROUNDS {
            let noise = xxh3_64_with_seed(&right.to_le_bytes(), self.key ^ round);
            (left, right) = (right, (left ^ noise) & mask);
        }
        left << self.half_bits | right
    }
}
