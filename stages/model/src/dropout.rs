//! Dropout (Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", 2014) at the four places of
//! GPT-2: after the embedding, on the weights of the attention, and after the attention and the feed-forward part of each block.
//!
//! ```text
//! y = x · keep / (1 − rate);   keep = bits ≥ rate · 2³²
//! bits = h(h(element ^ a) ^ b)      (a, b) = hash(seed, position of the sequence in the run, layer, place)
//! ```
//!
//! `h` mixes 32 bits (Wellons, "Prospecting for Hash Functions", 2018, with the constants 0x21f0aaad and 0xd35a2d97), and `element`
//! counts the values of one sequence. So a value is dropped or not by its identity alone: the choice is the same for any number of
//! threads, size of the micro-batch and device, and after a resume. A CPU computes the factors in a loop, a GPU from
//! 64-bit integer operations of Burn; both have the same bits.

use burn::tensor::{DType, Device, Int, Tensor, TensorCreationOptions, TensorData};
use contract::Draw;
use rayon::prelude::*;

use crate::device::is_gpu;

/// The multipliers and shifts of the mixing function.
const MULTIPLIERS: [u32; 2] = [0x21f0_aaad, 0xd35a_2d97];
const SHIFTS: [u32; 3] = [16, 15, 15];
/// The number of values that one task of the CPU computes.
const BLOCK: usize = 1 << 14;

/// The shares of values that are dropped, from 0 to below 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Of the sum of token and position embedding (`embd_pdrop`).
    pub embedding: f64,
    /// Of the weights of the attention (`attn_pdrop`).
    pub attention: f64,
    /// Of the results of attention and feed-forward part (`resid_pdrop`).
    pub residual: f64,
}

/// A place at which values are dropped, once in each layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// After the embedding.
    Embedding,
    /// On the weights of the attention.
    Attention,
    /// After the attention.
    AttentionResult,
    /// After the feed-forward part.
    MlpResult,
}

/// The dropout of a forward pass.
#[derive(Debug, Clone)]
pub struct Dropout {
    rates: Rates,
    draw: Draw,
    /// The position of the pass's first sequence in the run.
    pub position: u64,
}

impl Dropout {
    /// Creates the dropout of a run; `None` if all rates are 0.
    pub fn new(rates: Rates, seed: u64) -> Option<Self> {
        (rates != Rates::default()).then(|| Self { rates, draw: Draw::new(seed, "dropout"), position: 0 })
    }

    /// Returns the same dropout for a pass whose first sequence has this position in the run.
    #[must_use]
    pub fn at(&self, position: u64) -> Self {
        Self { position, ..self.clone() }
    }

    /// Returns the rate at a place.
    pub fn rate(&self, place: Place) -> f64 {
        match place {
            Place::Embedding => self.rates.embedding,
            Place::Attention => self.rates.attention,
            Place::AttentionResult | Place::MlpResult => self.rates.residual,
        }
    }

    /// Drops values of `x`, whose first dimension counts the sequences; with fewer than 2³² values a sequence.
    pub fn apply<const D: usize>(&self, x: Tensor<D>, layer: usize, place: Place) -> Tensor<D> {
        let rate = self.rate(place);
        if rate == 0.0 {
            return x;
        }
        let shape = x.dims();
        let keys: Vec<_> = (self.position..).take(shape[0]).map(|position| self.key(position, layer, place)).collect();
        let (device, values) = (x.device(), shape[1..].iter().product());
        let factors = match is_gpu(&device) {
            true => factors_by_operations(&keys, values, rate, &device),
            false => {
                let factors = factors(&keys, values, rate);
                Tensor::from_data(TensorData::new(factors, [shape[0], values]), &device)
            }
        };
        x * factors.reshape(shape)
    }

    fn key(&self, position: u64, layer: usize, place: Place) -> [u32; 2] {
        let bits =
            self.draw.bits(&[&position.to_le_bytes()[..], &(layer as u64).to_le_bytes(), &[place as u8]].concat());
        [bits as u32, (bits >> 32) as u32]
    }
}

/// Mixes 32 bits: a permutation in which every bit of the result depends on every bit.
fn mix(mut x: u32) -> u32 {
    x ^= x >> SHIFTS[0];
    x = x.wrapping_mul(MULTIPLIERS[0]);
    x ^= x >> SHIFTS[1];
    x = x.wrapping_mul(MULTIPLIERS[1]);
    x ^ x >> SHIFTS[2]
}

/// Returns the least bits that are kept, and what a kept value is multiplied with.
fn threshold(rate: f64) -> (u32, f32) {
    ((rate * (1u64 << 32) as f64) as u32, (1.0 / (1.0 - rate)) as f32)
}

/// Returns the factors of `values` values of the sequence of each key.
fn factors(keys: &[[u32; 2]], values: usize, rate: f64) -> Vec<f32> {
    let (least, scale) = threshold(rate);
    let mut factors = vec![0.0; keys.len() * values];
    let sequences = factors.par_chunks_mut(values.max(1)).zip(keys);
    sequences.for_each(|(sequence, [a, b])| {
        sequence.par_chunks_mut(BLOCK).enumerate().for_each(|(block, factors)| {
            for (element, factor) in ((block * BLOCK) as u32..).zip(factors) {
                *factor = if mix(mix(element ^ a) ^ b) >= least { scale } else { 0.0 };
            }
        });
    });
    factors
}

/// Does the same as [`factors`] on the device, `[sequences, values]`.
fn factors_by_operations(keys: &[[u32; 2]], values: usize, rate: f64, device: &Device) -> Tensor<2> {
    let (least, scale) = threshold(rate);
    let options = || TensorCreationOptions::new(device.clone()).with_dtype(DType::I64);
    let key = |part: usize| {
        let part: Vec<i64> = keys.iter().map(|key| i64::from(key[part])).collect();
        Tensor::<2, Int>::from_data(TensorData::new(part, [keys.len(), 1]), options())
    };
    let elements = Tensor::<1, Int>::arange(0..values as i64, options()).reshape([1, values]);
    let mixed = mix_by_operations(elements.bitwise_xor(key(0)));
    let bits = mix_by_operations(mixed.bitwise_xor(key(1)));
    bits.greater_equal_elem(i64::from(least)).float().mul_scalar(scale)
}

/// [`mix`] of the low 32 bits of 64-bit integers, without overflow: a multiplier of 2³¹ or more is replaced by the negative number
/// that is equal modulo 2³².
fn mix_by_operations(x: Tensor<2, Int>) -> Tensor<2, Int> {
    let shifted = |x: Tensor<2, Int>, by: u32| x.clone().bitwise_xor(x.bitwise_right_shift_scalar(by));
    let times =
        |x: Tensor<2, Int>, factor: u32| x.mul_scalar(i64::from(factor as i32)).bitwise_and_scalar(i64::from(u32::MAX));
    let x = times(shifted(x, SHIFTS[0]), MULTIPLIERS[0]);
    shifted(times(shifted(x, SHIFTS[1]), MULTIPLIERS[1]), SHIFTS[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [[u32; 2]; 4] = [[0, 0], [1, u32::MAX], [0x8000_0000, 0x1234_5678], [u32::MAX, 0xdead_beef]];

    #[test]
    fn the_device_computes_the_bits_of_the_loop() {
        for rate in [0.1, 0.5, 0.999] {
            let by_operations = factors_by_operations(&KEYS, 2 * BLOCK + 3, rate, &Device::flex());
            let by_operations = by_operations.into_data().try_to_vec::<f32>().unwrap();
            assert!(by_operations == factors(&KEYS, 2 * BLOCK + 3, rate), "{rate}");
        }
    }

    #[test]
    fn the_share_of_dropped_values_is_the_rate_and_the_mean_is_kept() {
        for rate in [0.1, 0.5, 0.9] {
            let factors = factors(&KEYS, 100_000, rate);
            let kept = factors.iter().filter(|factor| **factor > 0.0).count() as f64 / factors.len() as f64;
            assert!((kept - (1.0 - rate)).abs() < 0.004, "{rate}: {kept}");
            let mean = factors.iter().map(|factor| f64::from(*factor)).sum::<f64>() / factors.len() as f64;
            assert!((mean - 1.0).abs() < 0.03, "{rate}: {mean}");
        }
    }

    #[test]
    fn sequences_places_and_neighbours_are_independent() {
        let dropout = Dropout::new(Rates { residual: 0.5, embedding: 0.5, attention: 0.5 }, 1).unwrap();
        let of = |position, layer, place| factors(&[dropout.key(position, layer, place)], 65_536, 0.5);
        let one = of(3, 1, Place::MlpResult);
        let equal = |other: &[f32]| one.iter().zip(other).filter(|(one, other)| one == other).count() as f64 / 65_536.0;
        let others = [of(4, 1, Place::MlpResult), of(3, 2, Place::MlpResult), of(3, 1, Place::AttentionResult)];
        for other in others.iter().map(Vec::as_slice).chain([1, 2, 32, 768].map(|shift| &one[shift..])) {
            let equal = equal(other) * 65_536.0 / other.len() as f64;
            assert!((equal - 0.5).abs() < 0.01, "{equal}");
        }
    }

    #[test]
    fn the_choice_depends_on_the_position_and_not_on_the_pass() {
        let dropout = |position| Dropout::new(Rates { residual: 0.3, ..Rates::default() }, 7).unwrap().at(position);
        let apply = |position, sequences| {
            let x = Tensor::<3>::ones([sequences, 5, 40], &Device::flex());
            dropout(position).apply(x, 2, Place::MlpResult).into_data().try_to_vec::<f32>().unwrap()
        };
        assert_eq!(apply(10, 3), [apply(10, 1), apply(11, 2)].concat());
        assert_ne!(apply(10, 1), apply(11, 1));
        let x = Tensor::<3>::ones([1, 5, 40], &Device::flex());
        let same = dropout(10).apply(x.clone(), 0, Place::Embedding);
        assert_eq!(same.into_data(), x.into_data(), "the rate of another place");
        assert!(Dropout::new(Rates::default(), 1).is_none());
    }

    #[test]
    fn the_factors_are_equal_for_any_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| factors(&KEYS, 3 * BLOCK + 1, 0.2))
        };
        assert_eq!(run(1), run(3));
        // Pinned: other choices would be another model for the same seed.
        let bits: u64 =
            factors(&[[5, 9]], 64, 0.5).iter().rev().fold(0, |bits, factor| bits << 1 | u64::from(*factor > 0.0));
        assert_eq!(bits, 10_521_870_495_801_114_050);
    }
}
