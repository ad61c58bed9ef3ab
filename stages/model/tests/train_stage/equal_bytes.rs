//! What the bytes of the outputs do and do not depend on.

use model::train::Train;
use serde_json::json;

use crate::bench::{digests, harness, settings, tokens, uninterrupted, with};

#[test]
fn outputs_are_equal_for_any_number_of_threads() {
    let run = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = harness(folder.path());
        harness.resources.threads = threads;
        digests(&harness.run::<Train>(settings()).unwrap())
    };
    let one = run(1);
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

#[test]
fn a_wider_model_is_equal_for_any_number_of_threads() {
    // Wide enough that the matrix products and reductions are cut into tasks.
    let run = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = harness(folder.path());
        harness.resources.threads = threads;
        harness.connect("train", &tokens(folder.path(), "wide", 5000, 64));
        harness.inputs.remove("valid");
        let more = json!({ "width": 256, "heads": 4, "batch": 16, "accumulation": 1, "steps": 3 });
        digests(&harness.run::<Train>(with(more)).unwrap())
    };
    let one = run(1);
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

#[test]
fn another_seed_gives_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let one = digests(&harness.run::<Train>(settings()).unwrap());
    harness.seed = 2;
    assert_ne!(digests(&harness.run::<Train>(settings()).unwrap()), one);
}

#[test]
fn cadences_of_logs_and_checkpoints_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let more = json!({ "checkpoint_every": 1, "log_every": 1 });
    assert_eq!(digests(&harness(folder.path()).run::<Train>(with(more)).unwrap()), uninterrupted());
}
