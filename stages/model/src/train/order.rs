//! The order in which training reads its sequences: a new permutation for each epoch, computed and not stored.
//!
//! Position `p` of the run reads sequence `permutation(epoch = p / n, p % n)`. The permutation is a Feistel network of [`ROUNDS`] rounds
//! over the smallest domain of 2²ᵏ values that contains `0..n`, walked until it lands below `n` (cycle walking: Black and Rogaway, "Ciphers
//! with Arbitrary Finite Domains", 2002). The round function is hash(seed, epoch, round, half). So a resumed run needs only its position,
//! the order takes no memory, and it depends only on the seed and the number of sequences.

use contract::Draw;

const ROUNDS: u8 = 6;

/// The order of `n` sequences for one seed.
#[derive(Debug, Clone)]
pub struct Order {
    draw: Draw,
    sequences: u64,
    half_bits: u32,
}

impl Order {
    /// Creates the order of `sequences` sequences, at least one.
    pub fn new(seed: u64, sequences: u64) -> Self {
        let bits = u64::BITS - sequences.saturating_sub(1).leading_zeros();
        Self { draw: Draw::new(seed, "order of sequences"), sequences, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Returns the sequence that is read at a position of the run: the positions of each epoch read every sequence once.
    pub fn sequence(&self, position: u64) -> u64 {
        let (epoch, mut value) = (position / self.sequences, position % self.sequences);
        // The network permutes its domain, so the walk from a value below `n` returns to such a value.
        loop {
            value = self.permuted(epoch, value);
            if value < self.sequences {
                return value;
            }
        }
    }

    fn permuted(&self, epoch: u64, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        let mut identity = [0; 17];
        identity[..8].copy_from_slice(&epoch.to_le_bytes());
        for round in 0..ROUNDS {
            identity[8] = round;
            identity[9..].copy_from_slice(&right.to_le_bytes());
            (left, right) = (right, left ^ (self.draw.bits(&identity) & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_reads_every_sequence_once() {
        for sequences in [1, 2, 3, 4, 5, 16, 17, 1000] {
            let order = Order::new(7, sequences);
            for epoch in 0..3 {
                let mut read: Vec<_> = (0..sequences).map(|at| order.sequence(epoch * sequences + at)).collect();
                read.sort_unstable();
                assert_eq!(read, (0..sequences).collect::<Vec<_>>(), "{sequences} sequences, epoch {epoch}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let epoch = |seed, epoch: u64| -> Vec<_> {
            let order = Order::new(seed, 100);
            (0..100).map(|at| order.sequence(100 * epoch + at)).collect()
        };
        assert_ne!(epoch(1, 0), epoch(1, 1));
        assert_ne!(epoch(1, 0), epoch(2, 0));
        assert_eq!(epoch(1, 0), epoch(1, 0));
    }

    #[test]
    fn places_are_spread_evenly() {
        // The mean place of a sequence over many seeds is the middle of the epoch.
        let places: u64 = (0..2000).map(|seed| Order::new(seed, 101).sequence(0)).sum();
        let mean = places as f64 / 2000.0;
        assert!((mean - 50.0).abs() < 3.0, "{mean}");
    }
}
