//! The loss curves of both precisions: the same start, the same sequences in the same order.

use std::path::Path;

use burn::tensor::Device;
use contract::{Cancel, Result, StageError};
use model::train::Batch;
use model::train::schedule::Schedule;
use serde_json::json;

use crate::{PRECISIONS, Sizes, speed, tell};

/// Steps at the end whose mean loss is compared.
const LAST: usize = 20;
/// How far the means of the two precisions may lie apart: a tenth of what another seed changes at this length.
const NOISE: f64 = 0.02;

/// Trains both and compares the means of the last losses.
pub fn run(device: &Device, sizes: Sizes, steps: u64, tokens: Option<&Path>) -> Result<bool> {
    let length = sizes.sequence;
    let ids: Vec<i32> = match tokens {
        Some(file) => std::fs::read(file)?.as_chunks().0.iter().map(|id| i32::from(u16::from_le_bytes(*id))).collect(),
        // Something to learn: half of the ids follow from the one before.
        None => (0..1 << 16).map(|at: usize| (at / 2 * 7919 % 1013 * (1 + at % 2) % sizes.vocabulary) as i32).collect(),
    };
    let sequences: Vec<&[i32]> = ids.chunks_exact(length).collect();
    if sequences.is_empty() || ids.iter().any(|&id| id as usize >= sizes.vocabulary) {
        return Err(StageError::new("the tokens are too few, or of another vocabulary"));
    }
    let schedule = Schedule { peak: 6e-4, floor: 6e-5, warmup: steps / 10, steps };
    let mut means = Vec::new();
    for (name, precision) in PRECISIONS {
        let mut trainer = speed::trainer(device, sizes, precision)?;
        let mut losses = Vec::new();
        for step in 0..steps {
            let first = step as usize * sizes.batch;
            let ids = (first..first + sizes.batch).flat_map(|at| sequences[at % sequences.len()]).copied().collect();
            let batch = Batch { ids, sequences: sizes.batch };
            losses.push(trainer.update(&[batch], schedule.rate(step), &Cancel::default())?.loss);
        }
        let last = &losses[losses.len().saturating_sub(LAST)..];
        means.push(last.iter().sum::<f64>() / last.len() as f64);
        let curve: Vec<f64> = losses.iter().step_by((steps as usize / 20).max(1)).copied().collect();
        tell(
            &json!({ "precision": name, "steps": steps, "first_loss": losses[0], "mean_of_last": means.last(), "curve": curve }),
        );
    }
    let difference = (means[1] - means[0]).abs();
    tell(&json!({ "difference": difference, "within": NOISE, "right": difference < NOISE }));
    Ok(difference < NOISE)
}
