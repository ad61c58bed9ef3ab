//! A quick check that a product and an update work.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use contract::{Cancel, Result};
use model::Precision;
use model::parameters::host_values;
use model::train::Batch;
use serde_json::json;

use crate::{PRECISIONS, Sizes, print_line, speed};

/// Rows, inner size and columns of the product; none is a multiple of a tile.
const SIZES: [usize; 3] = [70, 130, 90];

/// Computes one product and one update in each precision, and prints the time to each.
pub fn run(device: &Device) -> Result<bool> {
    let mut right = true;
    for precision in PRECISIONS {
        let start = Instant::now();
        let difference = product(device, precision)?;
        let seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let loss = update(device, precision)?;
        // TF32 and bf16 keep 10 and 7 bits of a factor.
        let small = difference < if precision == Precision::F32 { 2e-3 } else { 2e-2 };
        // An untrained model predicts uniformly, so its loss is ln 97.
        let plausible = (loss - 97f64.ln()).abs() < 0.1;
        print_line(&json!({
            "precision": precision,
            "product_difference": difference,
            "product_seconds": seconds,
            "loss": loss,
            "update_seconds": start.elapsed().as_secs_f64(),
            "right": small && plausible,
        }));
        right &= small && plausible;
    }
    Ok(right)
}

/// Returns ‖ours − theirs‖ / ‖theirs‖ of a product, where theirs is computed in `f64` on the host.
fn product(device: &Device, precision: Precision) -> Result<f64> {
    let [rows, inner, columns] = SIZES;
    let value = |at: usize, seed: usize| ((at * 7919 + seed) % 1013) as f32 / 1013.0 - 0.5;
    let values = |size: usize, seed: usize| (0..size).map(|at| value(at, seed)).collect::<Vec<_>>();
    let (left, right) = (values(rows * inner, 1), values(inner * columns, 2));
    let on_device = |values: Vec<f32>, shape: [usize; 2]| {
        precision.factor(Tensor::<2>::from_data(TensorData::new(values, shape), device))
    };
    let ours = on_device(left.clone(), [rows, inner]).matmul(on_device(right.clone(), [inner, columns]));
    let ours = host_values(precision.result(ours).reshape([rows * columns]))?;
    let (mut error, mut norm) = (0.0, 0.0);
    for row in 0..rows {
        for column in 0..columns {
            let terms =
                (0..inner).map(|at| f64::from(left[row * inner + at]) * f64::from(right[at * columns + column]));
            let theirs: f64 = terms.sum();
            error += (f64::from(ours[row * columns + column]) - theirs).powi(2);
            norm += theirs * theirs;
        }
    }
    Ok((error / norm).sqrt())
}

/// Returns the loss of a tiny model after one update.
fn update(device: &Device, precision: Precision) -> Result<f64> {
    let sizes = Sizes { layers: 2, width: 64, heads: 2, vocabulary: 97, sequence: 32, batch: 4 };
    let batch = Batch { ids: (0..4 * 32).map(|at| at * 31 % 97).collect(), sequences: 4 };
    Ok(speed::trainer(device, sizes, precision, 1)?.update(&[batch], 1e-4, &Cancel::default())?.loss)
}
