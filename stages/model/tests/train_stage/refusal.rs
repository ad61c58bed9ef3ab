//! Settings, tokens and losses with which there is no training.

use contract::StageError;
use model::train::Train;
use serde_json::json;

use crate::bench::{VOCABULARY, harness, settings, tokens, with};

#[test]
fn a_loss_that_is_no_number_is_an_error_with_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = harness(folder.path()).run::<Train>(with(json!({ "learning_rate": 1e35, "warmup": 0 }))).unwrap_err();
    let StageError::Failed(failure) = error else { panic!("{error}") };
    assert!(failure.message.starts_with("step ") && failure.message.contains("the loss is"), "{}", failure.message);
    assert_eq!(failure.hint.as_deref(), Some("lower learning_rate, or raise warmup"));
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("valid", &tokens(folder.path(), "small", 7, 9));
    let error = harness.run::<Train>(settings()).unwrap_err().to_string();
    assert!(error.starts_with("the validation tokens (vocabulary 7"), "{error}");
    harness.connect("train", &tokens(folder.path(), "none", VOCABULARY, 0));
    let error = harness.run::<Train>(settings()).unwrap_err().to_string();
    assert_eq!(error, "the training tokens hold no sequence");
}

#[test]
fn validation_tokens_without_a_sequence_are_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("valid", &tokens(folder.path(), "none", VOCABULARY, 0));
    let StageError::Failed(failure) = harness.run::<Train>(settings()).unwrap_err() else { panic!("interrupted") };
    assert_eq!(failure.message, "the validation tokens hold no sequence");
    let hint = failure.hint.unwrap();
    assert!(hint.starts_with("leave the input 'valid' out to train without validation, raise the fraction"), "{hint}");
    harness.inputs.remove("valid");
    assert!(harness.run::<Train>(settings()).is_ok());
}

#[test]
fn settings_that_make_no_sense_are_problems() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |more| harness(folder.path()).run::<Train>(with(more)).unwrap_err().to_string();
    assert_eq!(problem(json!({ "width": 33 })), "width: must be a multiple of heads (4), not 33");
    assert_eq!(problem(json!({ "layers": 65_536 })), "layers: must be between 1 and 65535, not 65536");
    assert_eq!(
        problem(json!({ "batch": 0, "clip": 0.0 })),
        "batch: must be between 1 and 1048576, not 0; clip: must be greater than 0, not 0"
    );
    assert_eq!(problem(json!({ "steps": 1u64 << 33 })), "steps: must be between 1 and 4294967296, not 8589934592");
    let floor = json!({ "min_learning_rate": 0.02 });
    assert_eq!(problem(floor), "min_learning_rate: must be between 0 and learning_rate (0.01), not 0.02");
    assert_eq!(problem(json!({ "learning_rate": -1.0 })), "learning_rate: must be greater than 0, not -1");
    assert_eq!(
        problem(json!({ "learning_rate": 0.0, "min_learning_rate": -0.5 })),
        "learning_rate: must be greater than 0, not 0; min_learning_rate: must be at least 0, not -0.5"
    );
    for epsilon in [0.0, 1e-50] {
        let message = problem(json!({ "epsilon": epsilon }));
        assert!(message.starts_with("epsilon: must be greater than 0 (at least 1.2e-38)"), "{message}");
    }
    assert_eq!(problem(json!({ "validate_every": 0 })), "validate_every: must be at least 1, not 0");
    assert!(problem(json!({ "preset": "gpt2" })).starts_with("layers: preset gives the sizes already"));
    assert_eq!(problem(json!({ "layers": null })), ": layers is missing: layers, width and heads go together");
    let none = problem(json!({ "layers": null, "width": null, "heads": null }));
    assert_eq!(none, "the model has no sizes");
    assert_eq!(problem(json!({ "warmup": 13 })), "warmup: must be at most steps (12), not 13");
}
