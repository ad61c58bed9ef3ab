//! What `train` writes for a fixed input, against `golden.txt`.
//!
//! A line that differs means that equal tokens and settings no longer give an equal model: bump `REVISION`, so that models
//! are trained anew, and write the new lines down.
//!
//! Bytes are not compared: sums of `f32` are taken in another order where the processor has other vector instructions,
//! and the last bits of weights differ with it. Names, shapes, settings, keys and whole numbers must be the same; a
//! measure may differ by one in its third decimal.

use contract::Stage;
use model::train::Train;
use serde_json::{Map, Value};

use crate::{Outputs, harness, lines, read, settings};

/// One value a line: measures with three decimals, whole numbers as they are.
fn measures(place: &str, values: &Map<String, Value>, text: &mut String) {
    for (name, value) in values {
        *text += &match value.as_f64().filter(|_| value.is_f64()) {
            Some(measure) => format!("{place} {name} {measure:.3}\n"),
            None => format!("{place} {name} {value}\n"),
        };
    }
}

fn described(outputs: &Outputs) -> String {
    let mut text = String::new();
    for (port, tree) in outputs {
        let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
        text += &format!("{port}: {}\n", paths.join(" "));
    }
    let json =
        |port: &str, path: &str| -> Map<String, Value> { serde_json::from_slice(&read(outputs, port, path)).unwrap() };
    for path in ["config.json", "generation_config.json"] {
        json("model", path).iter().for_each(|(name, value)| text += &format!("{path} {name} {value}\n"));
    }
    measures("report.json", &json("metrics", "report.json"), &mut text);
    for line in lines(outputs) {
        measures("metrics.jsonl", line.as_object().unwrap(), &mut text);
    }
    let weights = read(outputs, "model", "model.safetensors");
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    for (name, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        text += &format!("{name} {} {}\n", tensor["dtype"], tensor["shape"]);
    }
    text
}

/// Whether two lines say the same, but for the third decimal of a measure, or as much of a larger one.
fn agree(one: &str, other: &str) -> bool {
    let is_measure = |text: &str| text.split_once('.').is_some_and(|(_, decimals)| decimals.len() == 3);
    let close = |(one, other): (&str, &str)| match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(x), Ok(y)) if is_measure(one) && is_measure(other) => (x - y).abs() < 0.0015 * x.abs().max(1.0),
        _ => one == other,
    };
    one.split(' ').count() == other.split(' ').count() && one.split(' ').zip(other.split(' ')).all(close)
}

#[test]
fn outputs_are_those_of_their_revision() {
    let folder = tempfile::tempdir().unwrap();
    let found = described(&harness(folder.path()).run::<Train>(settings()).unwrap());
    let golden = include_str!("golden.txt");
    let differs = found.lines().zip(golden.lines()).find(|(found, golden)| !agree(found, golden));
    assert!(
        differs.is_none() && found.lines().count() == golden.lines().count(),
        "bump the REVISION of {}, then write this to golden.txt (first difference: {differs:?}):\n{found}",
        Train::KIND
    );
}
