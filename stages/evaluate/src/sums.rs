//! Exact sums of losses, and the measures computed from them.
//!
//! | measure | formula |
//! |---|---|
//! | loss | Σ nats / predicted tokens |
//! | perplexity | exp(loss) |
//! | bits per byte | Σ nats of text tokens / (ln 2 · Σ raw bytes of text tokens) |
//!
//! The end-of-text token is predicted like any other token, but it has no bytes, so neither it nor its nats count in bits per byte. Bytes are
//! counted as the bytes that a token decodes to, before they are decoded as characters.
//!
//! A loss is rounded to a multiple of 2⁻⁴⁰ (about 10⁻¹²) nats (an `f32` of 2⁻¹⁷ nats or more already is one), and the multiples are added as integers. So a sum
//! does not depend on the order of its terms, and the sums of the slices of a partition add up to that of the whole, exactly.

use serde::Serialize;

/// The number of multiples in one nat.
const A_NAT: f64 = (1u64 << 40) as f64;
/// The loss of a token, in nats, from which it is rejected as out of range: 2⁴⁷ smaller losses fit in a sum.
const MOST_NATS: f64 = A_NAT;

/// A sum of losses, in multiples of 2⁻⁴⁰ nats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nats(i128);

impl Nats {
    /// Converts the loss of a token; returns `None` if it is not finite, or is 2⁴⁰ nats or more.
    pub fn of(loss: f32) -> Option<Self> {
        let nats = f64::from(loss);
        (nats.abs() < MOST_NATS).then(|| Self((nats * A_NAT).round() as i128))
    }

    /// Returns the sum in nats.
    pub fn value(self) -> f64 {
        self.0 as f64 / A_NAT
    }
}

impl std::ops::AddAssign for Nats {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

/// A predicted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    /// The loss.
    pub loss: Nats,
    /// The bytes that it decodes to; `None` for a special token.
    pub bytes: Option<u64>,
}

/// Sums over some predicted tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// The number of predicted tokens.
    pub tokens: u64,
    /// The sum of their losses.
    pub nats: Nats,
    /// The number of predicted tokens that are text.
    pub text_tokens: u64,
    /// The sum of the losses of text tokens.
    pub text_nats: Nats,
    /// The number of bytes that text tokens decode to.
    pub text_bytes: u64,
}

/// The measures of some predicted tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measures {
    /// The number of predicted tokens.
    pub tokens: u64,
    /// The mean loss per predicted token, in nats.
    pub loss: f64,
    /// The perplexity: `exp(loss)`.
    pub perplexity: f64,
    /// Bits per byte of text; `null` if no text was predicted.
    pub bits_per_byte: Option<f64>,
    /// The number of predicted tokens that are text.
    pub text_tokens: u64,
    /// The number of bytes that they decode to.
    pub text_bytes: u64,
}

impl Sums {
    /// Adds a predicted token.
    pub fn add(&mut self, Prediction { loss, bytes }: Prediction) {
        self.tokens += 1;
        self.nats += loss;
        if let Some(bytes) = bytes {
            self.text_tokens += 1;
            self.text_nats += loss;
            self.text_bytes += bytes;
        }
    }

    /// Returns the measures; without tokens, the loss is NaN.
    pub fn measures(&self) -> Measures {
        let loss = self.nats.value() / self.tokens as f64;
        let bits = self.text_nats.value() / (std::f64::consts::LN_2 * self.text_bytes as f64);
        Measures {
            tokens: self.tokens,
            loss,
            perplexity: libm::exp(loss),
            bits_per_byte: (self.text_bytes > 0).then_some(bits),
            text_tokens: self.text_tokens,
            text_bytes: self.text_bytes,
        }
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.nats += other.nats;
        self.text_tokens += other.text_tokens;
        self.text_nats += other.text_nats;
        self.text_bytes += other.text_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_around_the_bounds_are_counted_or_out_of_range() {
        assert_eq!(Nats::of(0.0), Some(Nats(0)));
        assert_eq!(Nats::of(2f32.powi(-40)), Some(Nats(1)));
        assert_eq!(Nats::of(2f32.powi(-42)), Some(Nats(0)));
        assert_eq!(Nats::of(-2f32.powi(-40)), Some(Nats(-1)));
        let below = f32::from_bits(2f32.powi(40).to_bits() - 1);
        assert_eq!(Nats::of(below).map(Nats::value), Some(f64::from(below)));
        for out in [2f32.powi(40), f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(Nats::of(out), None, "{out}");
        }
        let loss = 5.436_563_5_f32;
        assert_eq!(Nats::of(loss).map(Nats::value), Some(f64::from(loss)));
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order_or_on_how_it_is_divided() {
        // Sums of these in f64 depend on the order.
        let losses: Vec<f32> = (1..2000u32).map(|n| (n as f32).sqrt() * 10f32.powi((n % 11) as i32 - 6)).collect();
        let sums = |losses: &[f32]| {
            let mut sums = Sums::default();
            losses.iter().for_each(|loss| sums.add(Prediction { loss: Nats::of(*loss).unwrap(), bytes: Some(3) }));
            sums
        };
        let whole = sums(&losses);
        let mut reversed = losses.clone();
        reversed.reverse();
        assert_eq!(sums(&reversed), whole);
        for parts in [2, 7, 500] {
            let mut sum = Sums::default();
            losses.chunks(losses.len() / parts).for_each(|part| sum += sums(part));
            assert_eq!(sum, whole, "{parts} parts");
        }
        assert_ne!(
            losses.iter().map(|loss| f64::from(*loss)).sum::<f64>(),
            reversed.iter().map(|loss| f64::from(*loss)).sum::<f64>(),
            "these losses show nothing"
        );
    }
}
