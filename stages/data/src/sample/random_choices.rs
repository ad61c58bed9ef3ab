//! Random choices for one document.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A stream of random choices, seeded by the document.
pub(super) struct RandomChoices(ChaCha8Rng);

impl RandomChoices {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Returns a number below `bound`, which is not 0. (The bias is below `bound` in 2^64.)
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number between `low` and `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Returns true with probability `part`.
    pub(super) fn chance(&mut self, part: f64) -> bool {
        ((self.0.next_u64() >> 11) as f64) < part * (1u64 << 53) as f64
    }

    /// Returns one of `items`, which are not empty.
    pub(super) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len() as u64) as usize]
    }
}
