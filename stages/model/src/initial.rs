//! The initial values of a model: GPT-2's initialisation, drawn from a seed.
//!
//! Matrices and embeddings are normal with deviation 0.02; the two projections back into the residual stream
//! (`c_proj.weight`) have 0.02 / √(2 · layers), unless [`Residual::Plain`] is chosen; biases are 0 and layer-norm scales 1. Values are drawn on the host, each block of 65,536 from
//! a generator seeded by hash(seed, name of the tensor, block): they depend on neither device nor order nor threads.
//! The normal is the Box–Muller transform in `f64` with `libm`'s functions, which give the same bits on every machine.

use std::f64::consts::TAU;

use contract::Draw;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

use crate::config::{Gpt2Config, TensorShape};

/// The standard deviation of matrices and embeddings (`initializer_range`).
pub const DEVIATION: f64 = 0.02;
const BLOCK: usize = 1 << 16;

/// The deviation of the projections back into the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// Divided by √(2 · layers), so that the deviation of the stream does not grow with the layers (GPT-2).
    Scaled,
    /// As of all other matrices.
    Plain,
}

/// Returns the initial values of one tensor, row by row, with GPT-2's scaled residual projections.
pub fn initial_values(config: &Gpt2Config, seed: u64, tensor: &TensorShape) -> Vec<f32> {
    initial_values_with(config, seed, tensor, Residual::Scaled)
}

/// Does the same as [`initial_values`] with a choice of the residual projections.
pub fn initial_values_with(config: &Gpt2Config, seed: u64, tensor: &TensorShape, residual: Residual) -> Vec<f32> {
    let size = tensor.size();
    if !tensor.decays() {
        let scale = tensor.name.ends_with(".weight");
        return vec![if scale { 1.0 } else { 0.0 }; size];
    }
    let is_scaled = residual == Residual::Scaled && tensor.name.ends_with(".c_proj.weight");
    let deviation = if is_scaled { DEVIATION / (2.0 * config.layers as f64).sqrt() } else { DEVIATION };
    let draw = Draw::new(seed, "initial values");
    let mut values = vec![0.0; size];
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let identity = [tensor.name.as_bytes(), b"\0", &(block as u64).to_le_bytes()].concat();
        let mut random = ChaCha8Rng::from_seed(draw.seed(&identity));
        for pair in values.chunks_mut(2) {
            let (one, other) = normal_pair(&mut random);
            pair[0] = (one * deviation) as f32;
            if let Some(second) = pair.get_mut(1) {
                *second = (other * deviation) as f32;
            }
        }
    });
    values
}

/// Returns two independent standard normal numbers.
fn normal_pair(random: &mut ChaCha8Rng) -> (f64, f64) {
    // 53 bits; the radius is drawn from (0, 1] so that its logarithm is finite.
    let mut unit = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let radius = (-2.0 * libm::log(1.0 - unit())).sqrt();
    let angle = TAU * unit();
    (radius * libm::cos(angle), radius * libm::sin(angle))
}
