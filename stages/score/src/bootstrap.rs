//! Confidence intervals by the bootstrap over problems (Efron 1979): the problems are a sample of a larger set; each draw resamples as many
//! problems as there are, with replacement. A problem is drawn with all of its samples: the interval estimates the variation over other
//! problems of the same kind, not over other samples of the same problems.
//!
//! | | |
//! |---|---|
//! | statistic | the mean of one value per problem (pass@k, or a difference of two) |
//! | interval | percentile: of the `B` means in order, from number `⌊B · (1 - level) / 2⌋` (counted from 0) to the one with the same distance from the end |
//! | random numbers | problem `i` of draw `b` is `⌊N · u / 2^64⌋` with `u = mix(s_b + i · γ)`, the finaliser and increment of SplitMix64 (Steele, Lea, Flood 2014), and `s_b` the first 64 bits of blake3(seed, purpose, `b`) ([`contract::Draw`]) |
//!
//! A random number depends only on the seed, `b` and `i`, and floating point is used only for sums and a division, so the bits are the same
//! on every machine and for any number of threads. A problem is drawn with a probability that differs from `1/N` by less than `2^-64`.
//!
//! The percentile interval covers less than its level for few problems, and has no width if all problems have the same value, such
//! as 0: [`all_equal_bound`] returns the bound for that case.

use contract::{Draw, Result, StageError};
use serde::{Deserialize, Serialize};

use crate::pass_at_k::mean;

/// The settings of the bootstrap: the draws, and the level of the intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// The number of draws of all problems.
    pub draws: usize,
    /// The confidence level: the share of the draws' means within an interval, above 0 and below 1.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// Returns the default settings: 10,000 draws, a level of 95 % and seed 1.
    fn default() -> Self {
        Self { draws: 10_000, level: 0.95, seed: 1 }
    }
}

/// An interval, bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// A mean with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean over the problems.
    pub mean: f64,
    /// The interval.
    pub interval: Interval,
    /// The share of draws with a mean above 0, counting half of those at 0; for differences, how often the first is ahead.
    pub above_zero: f64,
}

/// Means below this are treated as zero: values are from -1 to 1, and means of differences of pass@k are multiples of far larger numbers.
const ROUNDING: f64 = 1e-12;

impl Bootstrap {
    /// Returns the mean of `values`, one per problem, with its interval.
    ///
    /// Equal seeds draw the same problems, whatever the values: two estimates over the same problems share their draws.
    ///
    /// # Errors
    /// Returns an error if there are no values or no draws, or the level is not between 0 and 1.
    pub fn estimate(&self, values: &[f64]) -> Result<Estimate> {
        if values.is_empty() || self.draws == 0 {
            return Err(StageError::new("an interval needs at least one problem and one draw"));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(StageError::new(format!("the level {} is not between 0 and 1", self.level)));
        }
        let draw = Draw::new(self.seed, "bootstrap over problems");
        let mut means: Vec<f64> = (0..self.draws as u64)
            .map(|number| {
                let start = draw.bits(&number.to_le_bytes());
                let drawn = (0..values.len() as u64).map(|place| {
                    let bits = mixed(start.wrapping_add(place.wrapping_mul(INCREMENT)));
                    values[((u128::from(bits) * values.len() as u128) >> 64) as usize]
                });
                drawn.sum::<f64>() / values.len() as f64
            })
            .collect();
        // A sum of differences that cancel is zero except for rounding.
        let twice_above = |mean: &f64| if mean.abs() < ROUNDING { 1 } else { 2 * u64::from(*mean > 0.0) };
        let above = means.iter().map(twice_above).sum::<u64>();
        means.sort_by(f64::total_cmp);
        let outside = (self.draws as f64 * (1.0 - self.level) / 2.0) as usize;
        let outside = outside.min((self.draws - 1) / 2);
        Ok(Estimate {
            mean: mean(values.iter().copied()),
            interval: Interval { low: means[outside], high: means[self.draws - 1 - outside] },
            above_zero: above as f64 / (2 * self.draws) as f64,
        })
    }
}

/// Returns the exact upper bound (Clopper and Pearson 1934) of the share of problems that could be solved if none of `problems` was, at a
/// level: `1 - ((1 - level) / 2)^(1/problems)`. If all were solved, 1 minus this value is the lower bound.
pub fn all_equal_bound(problems: usize, level: f64) -> f64 {
    1.0 - libm::pow((1.0 - level) / 2.0, 1.0 / problems.max(1) as f64)
}

const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Computes SplitMix64's finaliser.
fn mixed(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(INCREMENT);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: Bootstrap = Bootstrap { draws: 2000, level: 0.95, seed: 1 };

    #[test]
    fn the_generator_is_splitmix64() {
        // The first numbers of the reference implementation for seed 0.
        let numbers: Vec<_> = (0..3u64).map(|i| mixed(i.wrapping_mul(INCREMENT))).collect();
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn bits_are_those_of_this_revision() {
        let values: Vec<_> = (0..164).map(|i| f64::from(i % 7) / 6.0).collect();
        let estimate = USUAL.estimate(&values).unwrap();
        let bits = [estimate.mean, estimate.interval.low, estimate.interval.high].map(f64::to_bits);
        assert_eq!(bits, BITS, "{estimate:?}: a change needs a new REVISION of eval-code");
    }

    const BITS: [u64; 3] = [4602568975279296412, 4601653609501375579, 4603063272799373661];

    #[test]
    fn values_without_spread_have_an_interval_without_width() {
        let estimate = USUAL.estimate(&[0.25; 10]).unwrap();
        assert_eq!((estimate.interval, estimate.above_zero), (Interval { low: 0.25, high: 0.25 }, 1.0));
        let none = USUAL.estimate(&[0.0; 10]).unwrap();
        assert_eq!((none.interval, none.above_zero), (Interval { low: 0.0, high: 0.0 }, 0.5));
        let one = USUAL.estimate(&[0.5]).unwrap();
        assert_eq!(one.interval, Interval { low: 0.5, high: 0.5 });
        for draws in [1, 2, 3] {
            let estimate = Bootstrap { draws, ..USUAL }.estimate(&[0.0, 1.0]).unwrap();
            assert!(estimate.interval.low <= estimate.interval.high);
        }
        // The rule of three, for two sides.
        assert!((all_equal_bound(164, 0.95) - 0.02224).abs() < 1e-5, "{}", all_equal_bound(164, 0.95));
    }

    #[test]
    fn what_cannot_be_estimated_is_an_error() {
        assert!(USUAL.estimate(&[]).is_err());
        assert!(Bootstrap { draws: 0, ..USUAL }.estimate(&[1.0]).is_err());
        for level in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert!(Bootstrap { level, ..USUAL }.estimate(&[1.0]).is_err(), "{level}");
        }
    }

    /// Over many sets of values from a known distribution, the share of intervals that contain its mean is about the level.
    #[test]
    fn intervals_cover_the_mean_about_as_often_as_their_level() {
        let (sets, problems) = (400, 100);
        let held = (0..sets).filter(|set| {
            let draw = Draw::new(7, "coverage");
            let value =
                |i: u32| if draw.unit(&[u32::to_le_bytes(*set), i.to_le_bytes()].concat()) < 0.3 { 1.0 } else { 0.0 };
            let values: Vec<_> = (0..problems).map(value).collect();
            let interval = Bootstrap { draws: 400, ..USUAL }.estimate(&values).unwrap().interval;
            interval.low <= 0.3 && 0.3 <= interval.high
        });
        let share = held.count() as f64 / f64::from(sets);
        assert!((0.90..0.98).contains(&share), "{share}");
    }

    #[test]
    fn the_width_is_that_of_the_standard_error() {
        let values: Vec<_> = (0..1000).map(|i| f64::from(i % 2)).collect();
        let interval = USUAL.estimate(&values).unwrap().interval;
        let expected = 2.0 * 1.96 * (0.25f64 / 1000.0).sqrt();
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.1, "{interval:?} {expected}");
    }

    proptest! {
        #[test]
        fn an_interval_is_ordered_and_within_the_values(values in prop::collection::vec(-1.0f64..1.0, 1..50), seed: u64,
            level in 0.01f64..0.99, draws in 1usize..50) {
            let estimate = Bootstrap { draws, level, seed }.estimate(&values).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(least - 1e-12 <= estimate.interval.low && estimate.interval.high <= most + 1e-12);
            prop_assert!(estimate.interval.low <= estimate.interval.high);
            prop_assert_eq!(Bootstrap { draws, level, seed }.estimate(&values).unwrap(), estimate);
        }
    }
}
