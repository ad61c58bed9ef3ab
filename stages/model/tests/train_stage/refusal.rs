//! What is refused, and in which words.

use contract::StageError;
use model::train::Train;
use serde_json::json;

use crate::{VOCABULARY, harness, settings, tokens, with};

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
fn without_validation_sequences_the_error_says_how_to_train_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("valid", &tokens(folder.path(), "none", VOCABULARY, 0));
    let StageError::Failed(failure) = harness.run::<Train>(settings()).unwrap_err() else { panic!("no failure") };
    assert_eq!(failure.message, "the validation tokens hold no sequence");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("leave the input 'valid' out") && hint.contains("raise fraction"), "{hint}");
    harness.inputs.remove("valid");
    harness.run::<Train>(settings()).unwrap();
}

#[test]
fn settings_that_make_no_sense_are_problems() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |more| harness(folder.path()).run::<Train>(with(more)).unwrap_err().to_string();
    assert_eq!(problem(json!({ "width": 33 })), "width: must be a multiple of heads (4), not 33");
    assert!(problem(json!({ "preset": "gpt2" })).starts_with("layers: preset gives the sizes already"));
    assert_eq!(problem(json!({ "layers": null })), ": layers is missing: layers, width and heads go together");
    let none = problem(json!({ "layers": null, "width": null, "heads": null }));
    assert_eq!(none, "the model has no sizes");
    assert_eq!(problem(json!({ "warmup": 13 })), "warmup: must be at most steps (12), not 13");
    assert_eq!(
        problem(json!({ "min_learning_rate": 0.5 })),
        "min_learning_rate: must be at most learning_rate (0.01), not 0.5"
    );
    assert_eq!(
        problem(json!({ "batch": 1 << 10, "accumulation": 1025 })),
        "accumulation: must be at most 1024 with batch = 1024, not 1025: an update reads 1048576 sequences at most"
    );
}
