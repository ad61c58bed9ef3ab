//! The bands of a signature, and the probability that two documents share a bucket.
//!
//! With `b` bands of `r` rows, documents of similarity `J` share at least one bucket with probability
//! `1 - (1 - J^r)^b` (Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, 3.4.2). Because every proposed pair is
//! verified, a false candidate costs a comparison and no document, while a missed pair leaves a duplicate: so the bands
//! are chosen by recall alone. [`Bands::choose`] takes the most rows (the fewest false candidates) with which a pair
//! exactly at the threshold is found with at least the wanted probability.

use xxhash_rust::xxh3::xxh3_64;

use super::signature::{PERMUTATIONS, Signature};

/// The numbers of bands and rows; their product is at most [`PERMUTATIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bands {
    /// The number of bands.
    pub bands: usize,
    /// The number of rows per band.
    pub rows: usize,
}

impl Bands {
    /// Returns the bands with the most rows whose recall at `threshold` is at least `recall`; one row per band if there
    /// are none.
    pub fn choose(threshold: f64, recall: f64) -> Self {
        let of = |rows: usize| Self { bands: PERMUTATIONS / rows, rows };
        let found = (1..=PERMUTATIONS / 4).rev().map(of).find(|bands| bands.recall(threshold) >= recall);
        found.unwrap_or(of(1))
    }

    /// Returns the probability that two documents of this similarity share a bucket.
    pub fn recall(self, similarity: f64) -> f64 {
        // Powers by repeated multiplication give the same bits on every machine, which `powf` does not guarantee.
        let power = |base: f64, exponent: usize| (0..exponent).fold(1.0, |product, _| product * base);
        1.0 - power(1.0 - power(similarity, self.rows), self.bands)
    }

    /// Returns the bucket of a signature in each band, as a 64-bit hash of its rows.
    pub fn keys(self, signature: &Signature) -> impl Iterator<Item = u64> {
        let mut bytes = [0; 4 * PERMUTATIONS];
        for (place, value) in bytes.chunks_exact_mut(4).zip(signature) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        let width = 4 * self.rows;
        (0..self.bands).map(move |band| xxh3_64(&bytes[band * width..][..width]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_follows_the_formula() {
        let codeparrot = Bands { bands: 13, rows: 19 };
        assert!((codeparrot.recall(0.85) - 0.455).abs() < 1e-3, "{}", codeparrot.recall(0.85));
        let bigcode = Bands { bands: 25, rows: 10 };
        assert!((bigcode.recall(0.85) - 0.9958).abs() < 1e-4, "{}", bigcode.recall(0.85));
    }

    #[test]
    fn the_wanted_recall_is_reached_at_the_threshold() {
        for threshold in [0.3, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0] {
            let bands = Bands::choose(threshold, 0.999);
            assert!(bands.recall(threshold) >= 0.999, "{threshold}: {bands:?}");
            assert!(bands.bands * bands.rows <= PERMUTATIONS);
        }
        assert_eq!(Bands::choose(0.85, 0.99), Bands { bands: 25, rows: 10 });
        assert_eq!(Bands::choose(0.85, 0.999), Bands { bands: 28, rows: 9 });
    }
}
