//! The throughput of the matrix products of a training step, each alone.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use contract::Result;
use model::Precision;
use model::train::head;
use serde_json::json;

use crate::{PRECISIONS, Sizes, print_line, wait};

/// Products timed together, after as many to warm up (and to tune).
const TIMES: u32 = 10;

/// TFLOP/s of a square product and of each product of a block and of the head, forward and backward.
pub fn run(device: &Device, sizes: Sizes, square: usize) -> Result<bool> {
    let Sizes { width, vocabulary, batch, sequence, .. } = sizes;
    let rows = batch * sequence;
    // The head's rows are computed in chunks.
    let head_rows = head::chunk(batch * (sequence - 1), vocabulary, device);
    let mut products = vec![("square", square, square, square)];
    for (name, inputs, outputs, rows) in [
        ("c_attn", width, 3 * width, rows),
        ("c_proj", width, width, rows),
        ("c_fc", width, 4 * width, rows),
        ("mlp.c_proj", 4 * width, width, rows),
        ("head", width, vocabulary, head_rows),
    ] {
        products.push((name, rows, inputs, outputs));
    }
    for precision in PRECISIONS {
        for &(name, rows, inputs, outputs) in &products {
            // y = x w, x' = y' wᵀ, w' = xᵀ y'.
            let time = |part: &str| product(device, precision, part, [rows, inputs, outputs]);
            let operations = 2.0 * rows as f64 * inputs as f64 * outputs as f64;
            let mut line = json!({ "precision": precision, "product": name, "sizes": [rows, inputs, outputs] });
            for part in ["forward", "by_input", "by_weight"] {
                line[part] = (operations / time(part)? / 1e12).into();
                if name == "square" {
                    break;
                }
            }
            print_line(&line);
        }
    }
    Ok(true)
}

/// Seconds of one product.
fn product(device: &Device, precision: Precision, part: &str, [rows, inputs, outputs]: [usize; 3]) -> Result<f64> {
    let random =
        |shape: [usize; 2]| precision.factor(Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), device));
    let (left, right) = match part {
        "forward" => (random([rows, inputs]), random([inputs, outputs])),
        "by_input" => (random([rows, outputs]), random([inputs, outputs]).transpose()),
        _ => (random([rows, inputs]).transpose(), random([rows, outputs])),
    };
    let mut seconds = 0.0;
    for _ in 0..2 {
        wait(device)?;
        let start = Instant::now();
        // All results are kept until the end, as a lazy backend may skip a result that is dropped.
        let results: Vec<_> = (0..TIMES).map(|_| left.clone().matmul(right.clone())).collect();
        wait(device)?;
        drop(results);
        seconds = start.elapsed().as_secs_f64() / f64::from(TIMES);
    }
    Ok(seconds)
}
