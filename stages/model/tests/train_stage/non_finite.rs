//! Updates that are skipped because their loss or gradients are not finite.

use std::fs;
use std::path::Path;

use contract::harness::Harness;
use contract::{InputTree, Note, StageError};
use model::train::Train;
use model::train::order::Order;
use serde_json::{Map, Value, json};
use tokens::packed::HEADER_SIZE;

use crate::{LENGTH, VOCABULARY, digests, harness, lines, read, tree, with};

/// A token that is so unlikely that the gradient overflows where it is to be predicted.
const TOKEN: u32 = 40;
const SEQUENCES: u64 = 40;

/// A model with that token: a feature that is 1 everywhere has a huge negative weight in its embedding.
fn model(harness: &mut Harness, folder: &Path) -> InputTree {
    let mut model = harness.run::<Train>(with(json!({ "steps": 2 }))).unwrap().remove("model").unwrap();
    let weights = model.files.iter_mut().find(|file| file.path.as_str() == "model.safetensors").unwrap();
    let mut bytes = fs::read(&weights.location).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut set = |tensor: &str, at: usize, value: f32| {
        let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 8 + length + 4 * at;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    };
    set("transformer.wte.weight", TOKEN as usize * 32, -1e25);
    set("transformer.ln_f.weight", 0, 0.0);
    set("transformer.ln_f.bias", 0, 1.0);
    weights.location = folder.join("large");
    fs::write(&weights.location, bytes).unwrap();
    model
}

/// Whether the token is to be predicted in a sequence of `tokens`.
fn predicts(sequence: u64) -> bool {
    (1..LENGTH as u64).any(|at| (sequence * 7 + at * 3) % u64::from(VOCABULARY) == u64::from(TOKEN))
}

/// One sequence an update, at a rate that moves nothing.
fn settings(more: Value) -> Value {
    let mut settings = json!({ "batch": 1, "steps": 30, "learning_rate": 1e-30, "checkpoint_every": 4 });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

#[test]
fn updates_that_are_not_finite_are_skipped_and_counted_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let init = model(&mut harness, folder.path());
    harness.connect("init", &init).inputs.remove("valid");
    let order = Order::new(harness.seed, SEQUENCES);
    let expected: Vec<_> = (0..30).map(|step| predicts(order.sequence(step))).collect();
    let longest = expected.split(|skipped| !skipped).map(<[bool]>::len).max().unwrap() as u64;
    assert!(longest > 1 && expected.iter().filter(|skipped| !**skipped).count() > 10, "{expected:?}");

    let outputs = harness.run::<Train>(settings(json!({ "skip_non_finite": longest }))).unwrap();
    let found: Vec<_> = lines(&outputs).iter().map(|line| line.get("skipped") == Some(&json!(true))).collect();
    assert_eq!(found, expected);
    assert_eq!(lines(&outputs)[29]["tokens"], json!(30 * LENGTH), "what is skipped was read");
    let report: Value = serde_json::from_slice(&read(&outputs, "metrics", "report.json")).unwrap();
    let skipped = expected.iter().filter(|skipped| **skipped).count();
    assert_eq!((&report["skipped_steps"], &report["steps"]), (&json!(skipped), &json!(30)));
    let warnings = harness.progress.drain();
    let warnings =
        warnings.iter().filter(|note| matches!(note, Note::Warning { text } if text.contains(": skipped (")));
    assert_eq!(warnings.count(), skipped);

    // One fewer in a row, and none at all: it stops at the first update that is too many.
    for limit in [longest - 1, 0] {
        let scratch = folder.path().join(format!("scratch-{limit}"));
        harness.scratch = Some(scratch);
        let result = harness.run::<Train>(settings(json!({ "skip_non_finite": limit })));
        let StageError::Failed(failure) = result.unwrap_err() else { panic!("interrupted") };
        let window = limit as usize + 1;
        let last =
            expected.windows(window).position(|run| run.iter().all(|skipped| *skipped)).unwrap() + limit as usize;
        let (step, sequence) = (last + 1, order.sequence(last as u64));
        assert!(failure.message.starts_with(&format!("step {step}: the loss is ")), "{}", failure.message);
        assert!(failure.message.ends_with(&format!(" on sequences {sequence}")), "{}", failure.message);
        let hint = failure.hint.unwrap();
        let kept = match last / 4 * 4 {
            0 => "there is no checkpoint yet".to_owned(),
            step => format!("the checkpoint of step {step} is kept"),
        };
        assert!(hint.ends_with(&kept), "{hint}");
    }
}

#[test]
fn a_training_that_skipped_and_was_interrupted_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let init = model(&mut harness, folder.path());
    harness.connect("init", &init).inputs.remove("valid");
    // A rate that moves the parameters, so that a wrong count of updates shows in AdamW's corrections.
    let settings = || settings(json!({ "skip_non_finite": 30, "learning_rate": 1e-12, "checkpoint_every": 1 }));
    let expected = digests(&harness.run::<Train>(settings()).unwrap());
    harness.scratch = Some(folder.path().join("scratch"));
    let whole = harness.inputs["train"].clone();
    for step in [5, 6, 17, 29] {
        // An id outside the vocabulary stops the run at the step that reads it.
        let sequence = Order::new(harness.seed, SEQUENCES).sequence(step) as usize;
        let mut bytes = fs::read(&whole.files[0].location).unwrap();
        bytes[HEADER_SIZE + sequence * LENGTH * 2..][..2].copy_from_slice(&u16::MAX.to_le_bytes());
        harness.connect("train", &tree(folder.path(), "damaged", &[("tokens.bin", &bytes)]));
        assert!(harness.run::<Train>(settings()).unwrap_err().to_string().contains("contains id 65535"));
    }
    harness.connect("train", &whole);
    assert_eq!(digests(&harness.run::<Train>(settings()).unwrap()), expected);
}
