//! The choice of the next token.
//!
//! With temperature `T` > 0, in this order (that of Hugging Face's `generate`):
//!
//! 1. `p ∝ exp(logit / T)`; tokens whose probability is below e⁻⁴⁰ times the greatest are dropped: 53 random bits could hardly draw them;
//! 2. `top_k` > 0 keeps the `top_k` most probable tokens;
//! 3. `top_p` < 1 keeps the smallest set of the most probable tokens whose share of the probability left by step 2 is at least `top_p`;
//! 4. a token is drawn from the remaining ones, in proportion to `p`.
//!
//! With `T` = 0, the token with the greatest logit is chosen. Ties always go to the lower id. Sums are in `f64`, in order of the id (1, 2)
//! or of the probability (3, 4), and `exp` is `libm`'s: the same logits give the same token on every machine.

use std::cmp::Ordering;

/// The logarithm of the minimum probability of a token, relative to the greatest.
const LEAST_POWER: f64 = -40.0;

/// The settings for choosing the next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The temperature; 0 always picks the most probable token.
    pub temperature: f64,
    /// The total probability of the kept tokens, in (0, 1]; 1 keeps all tokens.
    pub top_p: f64,
    /// The number of kept tokens; 0 keeps all tokens.
    pub top_k: usize,
}

impl Sampling {
    /// The settings that always pick the most probable token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, top_k: 0 };

    /// Returns whether choices need a random number.
    pub fn draws(&self) -> bool {
        self.temperature > 0.0
    }

    /// Returns the next token's id, given the logit of each id and a uniform number `unit` in `[0, 1)`; `None` if a logit is not finite or
    /// there are no logits.
    pub fn choose(&self, logits: &[f32], unit: f64) -> Option<u32> {
        let greatest = most_probable(logits)?;
        if !self.draws() {
            return Some(greatest as u32);
        }
        let peak = f64::from(logits[greatest]);
        let powers = logits.iter().map(|&logit| (f64::from(logit) - peak) / self.temperature);
        let kept = (0..).zip(powers).filter(|(_, power)| *power >= LEAST_POWER);
        let mut kept: Vec<(u32, f64)> = kept.map(|(id, power)| (id, libm::exp(power))).collect();
        if self.top_k > 0 && self.top_k < kept.len() {
            kept.select_nth_unstable_by(self.top_k - 1, by_probability);
            kept.truncate(self.top_k);
            kept.sort_unstable_by_key(|&(id, _)| id);
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut kept, self.top_p);
        }
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let drawn = unit * total;
        let mut sum = 0.0;
        let chosen = kept.iter().find(|(_, weight)| {
            sum += weight;
            sum > drawn
        });
        // Rounding may leave the last sum at `drawn`: then the last token that can be drawn is chosen.
        chosen.or_else(|| kept.iter().rfind(|(_, weight)| *weight > 0.0)).map(|&(id, _)| id)
    }
}

/// Returns the index of the greatest logit, the first of equal ones; `None` if a logit is not finite or there are no logits.
fn most_probable(logits: &[f32]) -> Option<usize> {
    // Computed in lanes, so that the loop needs no order: a vocabulary is read for each token.
    let (mut tops, mut zeros) = ([f32::NEG_INFINITY; 16], [0f32; 16]);
    let mut add = |logits: &[f32]| {
        for ((logit, top), zero) in logits.iter().zip(&mut tops).zip(&mut zeros) {
            *top = if *logit > *top { *logit } else { *top };
            // NaN if the logit is not finite.
            *zero += logit * 0.0;
        }
    };
    let (whole, rest) = logits.as_chunks::<16>();
    whole.iter().for_each(|logits| add(logits));
    add(rest);
    if zeros.iter().any(|zero| zero.is_nan()) {
        return None;
    }
    let top = tops.into_iter().reduce(f32::max)?;
    logits.iter().position(|logit| *logit == top)
}

/// Orders tokens from the most probable down; among equals, the lower id comes first.
fn by_probability(a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Returns the smallest set of the most probable tokens whose share of the total is at least `top_p`, from the most probable down.
fn keep_nucleus(kept: &mut Vec<(u32, f64)>, top_p: f64) {
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    // All tokens with less than this weight together have a share below `1 - top_p`, so none is in the set: only
    // a few tokens are sorted, not the vocabulary.
    let floor = (1.0 - top_p) * total / kept.len() as f64;
    kept.retain(|(_, weight)| *weight >= floor);
    kept.sort_unstable_by(by_probability);
    let mut sum = 0.0;
    let size = kept.iter().take_while(|(_, weight)| {
        let inside = sum < top_p * total;
        sum += weight;
        inside
    });
    let size = size.count().max(1);
    kept.truncate(size);
}
