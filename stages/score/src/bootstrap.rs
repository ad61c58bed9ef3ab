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
//! The percentile interval covers less than its level for few problems.
//!
//! # All values are the same
//! Then every draw has the same mean, and the bootstrap has no spread. The interval is exact instead. Let all `N` values be `v`, and let `m` be the mean
//! over all such problems. A value of another problem is at most `high`, so `m - v <= (high - v) · P(value ≠ v)`, and that `N` values are
//! all `v` has the probability `(1 - P(value ≠ v))^N`. An `m` above `v + (high - v) · b`, with `b = 1 - ((1 - level) / 2)^(1/N)`, would make
//! it less than `(1 - level) / 2`; the same holds below `v`:
//!
//! ```text
//! [v - (v - low) · b, v + (high - v) · b]        values from low to high
//! ```
//!
//! For values that are 0 or 1, with 0 or `N` of `N` problems solved, it is the interval of Clopper and Pearson (1934); `b` is about `3.7 / N` at 95 %,
//! the rule of three for two sides.

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

impl Interval {
    /// The range of a share, such as pass@k.
    pub const SHARE: Self = Self { low: 0.0, high: 1.0 };
    /// The range of a difference of two shares.
    pub const DIFFERENCE: Self = Self { low: -1.0, high: 1.0 };
}

/// A mean with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean over the problems.
    pub mean: f64,
    /// The interval.
    pub interval: Interval,
    /// Whether the interval is exact, because all values are the same; otherwise it is that of the bootstrap.
    pub is_exact: bool,
    /// The share of draws with a mean above 0, counting half of those at 0; for differences, how often the first is ahead.
    pub above_zero: f64,
}

/// The maximum number of decimals of a level that count.
const MOST_DIGITS: usize = 18;

/// Means below this are treated as zero: values are from -1 to 1, and means of differences of pass@k are multiples of far larger numbers.
const ROUNDING: f64 = 1e-12;

impl Bootstrap {
    /// Returns the number of means below the interval, and of those above it: `⌊draws · (1 - level) / 2⌋`, with the level as it is written in decimal.
    /// In floating point, a level of 0.9 would give 499 of 10,000.
    fn outside(&self) -> usize {
        // The shortest decimal that stands for the number, whose digits after the point an integer holds.
        let text = self.level.to_string();
        let digits = text.split_once('.').map_or("", |(_, digits)| digits);
        let digits = &digits[..digits.len().min(MOST_DIGITS)];
        let one = 10_u128.pow(digits.len() as u32);
        let level = digits.parse().unwrap_or(0).min(one);
        (self.draws as u128 * (one - level) / (2 * one)) as usize
    }

    /// Returns the mean of `values`, one per problem and each within `range`, with its interval.
    ///
    /// Equal seeds draw the same problems, whatever the values: two estimates over the same problems share their draws.
    ///
    /// # Errors
    /// Returns an error if there are no values or no draws, or the level is not between 0 and 1.
    pub fn estimate(&self, values: &[f64], range: Interval) -> Result<Estimate> {
        if values.is_empty() || self.draws == 0 {
            return Err(StageError::new("an interval needs at least one problem and one draw"));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(StageError::new(format!("the level {} is not between 0 and 1", self.level)));
        }
        if values.iter().all(|value| *value == values[0]) {
            return Ok(self.exact(values[0], values.len(), range));
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
        let outside = self.outside().min((self.draws - 1) / 2);
        Ok(Estimate {
            mean: mean(values.iter().copied()),
            interval: Interval { low: means[outside], high: means[self.draws - 1 - outside] },
            is_exact: false,
            above_zero: above as f64 / (2 * self.draws) as f64,
        })
    }

    /// Returns the estimate if all values of `problems` problems are `value`.
    fn exact(&self, value: f64, problems: usize, range: Interval) -> Estimate {
        let bound = 1.0 - libm::pow((1.0 - self.level) / 2.0, 1.0 / problems as f64);
        let interval =
            Interval { low: value - (value - range.low) * bound, high: value + (range.high - value) * bound };
        let above_zero = if value.abs() < ROUNDING { 0.5 } else { f64::from(value > 0.0) };
        Estimate { mean: value, interval, is_exact: true, above_zero }
    }
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
        let estimate = USUAL.estimate(&values, Interval::SHARE).unwrap();
        let bits = [estimate.mean, estimate.interval.low, estimate.interval.high].map(f64::to_bits);
        assert_eq!(bits, BITS, "{estimate:?}: a change needs a new REVISION of eval-code");
    }

    const BITS: [u64; 3] = [4602568975279296412, 4601653609501375579, 4603063272799373661];

    #[test]
    fn values_without_spread_have_an_exact_interval() {
        let of = |values: &[f64], range| {
            let Estimate { mean, interval, is_exact, above_zero } = USUAL.estimate(values, range).unwrap();
            assert!(is_exact && mean == values[0]);
            (interval, above_zero)
        };
        // Clopper and Pearson's: 0 and 10 of 10, and 0 of 164, at 95 %.
        let close = |found: (Interval, f64), low: f64, high: f64, above: f64| {
            let (Interval { low: found_low, high: found_high }, found_above) = found;
            assert!((found_low - low).abs() < 1e-5 && (found_high - high).abs() < 1e-5, "{found:?}");
            assert_eq!(found_above, above);
        };
        close(of(&[0.0; 10], Interval::SHARE), 0.0, 0.308498, 0.5);
        close(of(&[1.0; 10], Interval::SHARE), 0.691502, 1.0, 1.0);
        close(of(&[0.0; 164], Interval::SHARE), 0.0, 0.022242, 0.5);
        close(of(&[0.5], Interval::SHARE), 0.0125, 0.9875, 1.0);
        close(of(&[0.25; 10], Interval::SHARE), 0.172876, 0.481373, 1.0);
        close(of(&[0.0; 10], Interval::DIFFERENCE), -0.308498, 0.308498, 0.5);
        close(of(&[-1.0; 10], Interval::DIFFERENCE), -1.0, -0.383004, 0.0);
        let other = USUAL.estimate(&[0.0, 0.0, 0.5], Interval::SHARE).unwrap();
        assert!(!other.is_exact && other.interval.low == 0.0);
        for draws in [1, 2, 3] {
            let estimate = Bootstrap { draws, ..USUAL }.estimate(&[0.0, 1.0], Interval::SHARE).unwrap();
            assert!(estimate.interval.low <= estimate.interval.high);
        }
    }

    /// Of many sets of problems of which 3 % are solvable, at most 5 % have an interval that does not contain 3 %: the percentile interval of
    /// those in which no problem is solved never contains it.
    #[test]
    fn exact_intervals_cover_the_mean_where_the_bootstrap_cannot() {
        let (sets, problems, share) = (1000, 50, 0.03);
        let covered = (0..sets).map(|set: u32| {
            let draw = Draw::new(8, "rare");
            let value = |i: u32| f64::from(draw.unit(&[set.to_le_bytes(), i.to_le_bytes()].concat()) < share);
            let values: Vec<_> = (0..problems).map(value).collect();
            let Estimate { interval, is_exact, .. } =
                Bootstrap { draws: 200, ..USUAL }.estimate(&values, Interval::SHARE).unwrap();
            (is_exact, interval.low <= share && share <= interval.high)
        });
        let (exact, others): (Vec<_>, Vec<_>) = covered.partition(|(is_exact, _)| *is_exact);
        println!("{} sets without a solved problem, {} others", exact.len(), others.len());
        assert!((150..300).contains(&exact.len()) && exact.iter().all(|(_, is_covered)| *is_covered));
        let share = others.iter().filter(|(_, is_covered)| *is_covered).count() as f64 / others.len() as f64;
        assert!(share > 0.9, "{share}");
    }

    #[test]
    fn what_cannot_be_estimated_is_an_error() {
        assert!(USUAL.estimate(&[], Interval::SHARE).is_err());
        assert!(Bootstrap { draws: 0, ..USUAL }.estimate(&[1.0], Interval::SHARE).is_err());
        for level in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert!(Bootstrap { level, ..USUAL }.estimate(&[1.0], Interval::SHARE).is_err(), "{level}");
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
            let interval = Bootstrap { draws: 400, ..USUAL }.estimate(&values, Interval::SHARE).unwrap().interval;
            interval.low <= 0.3 && 0.3 <= interval.high
        });
        let share = held.count() as f64 / f64::from(sets);
        assert!((0.90..0.98).contains(&share), "{share}");
    }

    #[test]
    fn the_width_is_that_of_the_standard_error() {
        let values: Vec<_> = (0..1000).map(|i| f64::from(i % 2)).collect();
        let interval = USUAL.estimate(&values, Interval::SHARE).unwrap().interval;
        let expected = 2.0 * 1.96 * (0.25f64 / 1000.0).sqrt();
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.1, "{interval:?} {expected}");
    }

    proptest! {
        #[test]
        fn an_interval_is_ordered_and_within_the_values(values in prop::collection::vec(-1.0f64..1.0, 1..50), seed: u64,
            level in 0.01f64..0.99, draws in 1usize..50) {
            let estimate = Bootstrap { draws, level, seed }.estimate(&values, Interval::DIFFERENCE).unwrap();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (least, most) = if estimate.is_exact { (-1.0, 1.0) } else { (least, most) };
            prop_assert!(least - 1e-12 <= estimate.interval.low && estimate.interval.high <= most + 1e-12);
            prop_assert!(estimate.interval.low <= estimate.interval.high);
            prop_assert_eq!(Bootstrap { draws, level, seed }.estimate(&values, Interval::DIFFERENCE).unwrap(), estimate);
        }
    }

    #[test]
    fn the_means_outside_an_interval_are_counted_exactly() {
        for (draws, level, outside) in [
            (10_000, 0.9, 500),
            (10_000, 0.8, 1000),
            (10_000, 0.95, 250),
            (10_000, 0.99, 50),
            (1000, 0.95, 25),
            (100, 0.9, 5),
            (99, 0.9, 4),
            (1, 0.5, 0),
            (10_000, 0.1 + 0.2, 3499),
            (10_000, 0.3, 3500),
            (10_000, f64::EPSILON, 4999),
            (10_000, 1.0 - f64::EPSILON, 0),
        ] {
            assert_eq!(Bootstrap { draws, level, seed: 1 }.outside(), outside, "{draws} draws at {level}");
        }
    }
}
