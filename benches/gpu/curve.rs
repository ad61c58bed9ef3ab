//! The loss curves in both precisions, from the same initial weights and the same sequences in the same order.

use std::path::Path;

use burn::tensor::Device;
use contract::{Cancel, Result, StageError};
use model::Precision;
use model::train::Batch;
use model::train::schedule::{Schedule, Shape};
use serde_json::json;

use crate::{Sizes, print_line, speed};

/// Steps whose mean loss is compared.
const STEPS: usize = 20;

/// Trains in f32, in f32 with other initial weights, and in bf16. For every 20 steps, the mean loss in bf16 must not differ from f32 by
/// more than the largest difference caused by the other initial weights.
pub fn run(device: &Device, sizes: Sizes, steps: usize, tokens: Option<&Path>) -> Result<bool> {
    let length = sizes.sequence;
    let ids: Vec<i32> = match tokens {
        Some(file) => std::fs::read(file)
            .map_err(|e| StageError::io("read it", &e).in_file(file))?
            .as_chunks()
            .0
            .iter()
            .map(|id| i32::from(u16::from_le_bytes(*id)))
            .collect(),
        // A learnable sequence: every second id is determined by the previous one.
        None => (0..1 << 16).map(|at: usize| (at / 2 * 7919 % 1013 * (1 + at % 2) % sizes.vocabulary) as i32).collect(),
    };
    let sequences: Vec<&[i32]> = ids.chunks_exact(length).collect();
    if sequences.is_empty() {
        return Err(StageError::new(format!("{} tokens are fewer than one sequence of {length}", ids.len())));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= sizes.vocabulary) {
        return Err(StageError::new(format!("the token {id} is above the vocabulary of {}", sizes.vocabulary)));
    }
    let (shape, steps_in_all) = (Shape::Cosine, steps as u64);
    let schedule =
        Schedule { shape, peak: 6e-4, floor: 6e-5, warmup: steps_in_all / 10, decay: 0, steps: steps_in_all };
    let mut curves = Vec::new();
    for (precision, seed) in [(Precision::F32, 1), (Precision::F32, 2), (Precision::Bf16, 1)] {
        let mut trainer = speed::trainer(device, sizes, precision, seed)?;
        let mut losses = Vec::new();
        for step in 0..steps {
            let first = step * sizes.batch;
            let ids = (first..first + sizes.batch).flat_map(|at| sequences[at % sequences.len()]).copied().collect();
            let batch = Batch { ids, sequences: sizes.batch };
            losses.push(trainer.update(&[batch], schedule.rate(step as u64), &Cancel::default())?.loss);
        }
        let curve: Vec<f64> =
            losses.chunks(STEPS).map(|losses| losses.iter().sum::<f64>() / losses.len() as f64).collect();
        print_line(
            &json!({ "precision": precision, "seed": seed, "steps": steps, "last": curve.last(), "curve": curve }),
        );
        curves.push(curve);
    }
    let furthest = |other: &[f64]| {
        curves[0].iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, |most: f64, next| match next {
            next if next.is_nan() || next > most => next,
            _ => most,
        })
    };
    let (noise, difference) = (furthest(&curves[1]), furthest(&curves[2]));
    let right = difference <= noise;
    print_line(&json!({ "difference_of_bf16": difference, "difference_of_seeds": noise, "right": right }));
    Ok(right)
}
