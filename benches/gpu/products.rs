//! The throughput of the matrix products of a training step, each alone.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use contract::Result;
use model::Precision;
use model::train::head;
use serde_json::json;

use crate::{PRECISIONS, Sizes, print_line, wait};

/// The number of products timed together, after as many warm-up products, which also tune.
const TIMES: u32 = 10;

/// Prints the TFLOP/s of a square product and of each product of a block and of the head, forward and backward.
pub fn run(device: &Device, sizes: Sizes, square: usize) -> Result<bool> {
    let Sizes { width, vocabulary, batch, sequence, .. } = sizes;
    // The head's rows are computed in chunks.
    let head_rows = head::chunk(batch * (sequence - 1), vocabulary, device);
    let products = [
        ("square", [1, square], square, square),
        ("c_attn", [batch, sequence], width, 3 * width),
        ("c_proj", [batch, sequence], width, width),
        ("c_fc", [batch, sequence], width, 4 * width),
        ("mlp.c_proj", [batch, sequence], 4 * width, width),
        ("head", [1, head_rows], width, vocabulary),
    ];
    for precision in PRECISIONS {
        for &(name, rows, inputs, outputs) in &products {
            // y = x w, x' = y' wᵀ, w' = xᵀ y'.
            let time = |part: &str| product(device, precision, part, rows, [inputs, outputs]);
            let rows: usize = rows.iter().product();
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

/// Returns the seconds of one product with rows `[sequences, tokens per sequence]`, as training multiplies them.
fn product(
    device: &Device,
    precision: Precision,
    part: &str,
    [batch, sequence]: [usize; 2],
    [inputs, outputs]: [usize; 2],
) -> Result<f64> {
    let random =
        |shape: [usize; 3]| precision.factor(Tensor::<3>::random(shape, Distribution::Uniform(-1.0, 1.0), device));
    let (left, right) = match part {
        "forward" => (random([batch, sequence, inputs]), random([1, inputs, outputs])),
        "by_input" => (random([batch, sequence, outputs]), random([1, inputs, outputs]).transpose()),
        // Over the rows of all sequences.
        _ => (random([1, batch * sequence, inputs]).transpose(), random([1, batch * sequence, outputs])),
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
