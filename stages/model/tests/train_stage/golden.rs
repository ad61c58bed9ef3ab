//! What this revision of the stage writes for a fixed input.
//!
//! Where one of these fails, equal inputs and settings no longer give equal outputs: bump `REVISION`, so that models are
//! trained anew, and write down the new golden text.
//!
//! What no float enters is compared byte by byte: the configuration, the list of tensors, and the values that the seed
//! draws, which an update at rate 0 leaves as they are. Losses and norms are compared to four digits: the CPU's kernels
//! choose their instructions (FMA, AVX2, AVX-512) by the processor, which changes the order of a sum, and with it the
//! last bits. On one machine the outputs are equal to the bit, as the other tests of this folder say.

use contract::{Digest, Stage};
use model::train::Train;
use serde_json::{Value, json};

use crate::bench::{harness, lines, read, with};

#[test]
fn the_model_that_the_seed_draws_has_the_bytes_of_this_revision() {
    let folder = tempfile::tempdir().unwrap();
    // The rate of the first update is 0, as the warm-up begins there.
    let outputs = harness(folder.path()).run::<Train>(with(json!({ "steps": 1, "warmup": 1 }))).unwrap();
    let digests = outputs["model"].files.iter().map(|file| format!("{} {}\n", file.path, file.digest.short()));
    assert_eq!(Train::REVISION, 1);
    assert_eq!(digests.collect::<String>(), include_str!("golden_model.txt"), "bump the REVISION of train");
}

#[test]
fn a_trained_model_has_the_tensors_of_this_revision() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = harness(folder.path()).run::<Train>(with(json!({ "steps": 4 }))).unwrap();
    let bytes = read(&outputs, "model", "model.safetensors");
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let header = Digest::of(&rest[..u64::from_le_bytes(*length) as usize]).short();
    assert_eq!(header, "7f1c6431798d", "bump the REVISION of train");
}

#[test]
fn the_metrics_are_those_of_this_revision() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = harness(folder.path()).run::<Train>(with(json!({ "steps": 4, "validate_every": 2 }))).unwrap();
    let golden = include_str!("golden_metrics.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
    let golden: Vec<Value> = golden.collect();
    let mut found = lines(&outputs);
    found.push(serde_json::from_slice(&read(&outputs, "metrics", "report.json")).unwrap());
    let near = found.len() == golden.len() && found.iter().zip(&golden).all(|(found, golden)| is_near(found, golden));
    let text: String = found.iter().map(|line| format!("{line}\n")).collect();
    assert!(near, "bump the REVISION of train, then write this to golden_metrics.jsonl:\n{text}");
}

/// Whether two values have the same shape, whole numbers and texts, and floats that agree to four digits.
fn is_near(found: &Value, golden: &Value) -> bool {
    match (found, golden) {
        (Value::Object(found), Value::Object(golden)) => {
            found.keys().eq(golden.keys())
                && found.values().zip(golden.values()).all(|(found, golden)| is_near(found, golden))
        }
        (Value::Number(found), Value::Number(golden)) if found.is_f64() && golden.is_f64() => {
            let (found, golden) = (found.as_f64().unwrap(), golden.as_f64().unwrap());
            (found - golden).abs() <= 1e-4 * golden.abs()
        }
        _ => found == golden,
    }
}
