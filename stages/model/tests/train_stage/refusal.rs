//! What is refused, and in which words.

use contract::StageError;
use model::train::Train;
use serde_json::json;

use crate::{VOCABULARY, harness, settings, tokenizer, tokens, with};

#[test]
fn a_loss_that_is_no_number_is_an_error_with_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = harness(folder.path()).run::<Train>(with(json!({ "learning_rate": 1e35, "warmup": 0 }))).unwrap_err();
    let StageError::Failed(failure) = error else { panic!("{error}") };
    assert!(failure.message.starts_with("step ") && failure.message.contains("the loss is"), "{}", failure.message);
    assert!(failure.message.contains(" on sequences "), "{}", failure.message);
    let hint = "lower learning_rate, raise warmup, or set skip_non_finite; there is no checkpoint yet";
    assert_eq!(failure.hint.as_deref(), Some(hint));
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
    assert_eq!(error, "the training tokens contain no sequence");
}

#[test]
fn a_tokenizer_that_the_tokens_are_not_of_is_refused_before_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("tokenizer", &tokenizer(folder.path()));
    let StageError::Failed(failure) = harness.run::<Train>(settings()).unwrap_err() else { panic!("interrupted") };
    assert_eq!(
        failure.message,
        "the tokens were packed with another tokenizer: 61 ids, end-of-text 0, but the input 'tokenizer' has 257 ids, \
         end-of-text 0"
    );
    assert_eq!(harness.progress.sample().total, None, "no step was done");
}

#[test]
fn without_validation_sequences_the_error_says_how_to_train_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("valid", &tokens(folder.path(), "none", VOCABULARY, 0));
    let StageError::Failed(failure) = harness.run::<Train>(settings()).unwrap_err() else { panic!("no failure") };
    assert_eq!(failure.message, "the validation tokens contain no sequence");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("disconnect the input 'valid'") && hint.contains("raise fraction"), "{hint}");
    harness.inputs.remove("valid");
    harness.run::<Train>(settings()).unwrap();
}

#[test]
fn settings_that_make_no_sense_are_problems() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |more| harness(folder.path()).run::<Train>(with(more)).unwrap_err().to_string();
    assert_eq!(problem(json!({ "width": 33 })), "width: must be a multiple of heads (4), not 33");
    assert!(problem(json!({ "preset": "gpt2" })).starts_with("layers: preset already sets the sizes"));
    assert_eq!(problem(json!({ "layers": null })), ": layers is missing: set layers, width and heads together");
    let none = problem(json!({ "layers": null, "width": null, "heads": null }));
    assert_eq!(none, "the model has no sizes");
    assert_eq!(problem(json!({ "warmup": 13 })), "warmup: must be at most steps (12), not 13");
    assert_eq!(
        problem(json!({ "min_learning_rate": 0.5 })),
        "min_learning_rate: must be at most learning_rate (0.01), not 0.5"
    );
    assert_eq!(problem(json!({ "decay": 2 })), "decay: has an effect with schedule = \"warmup-stable-decay\" only");
    assert_eq!(
        problem(json!({ "decay": 11, "schedule": "warmup-stable-decay" })),
        "decay: must be at most steps - warmup (10), not 11"
    );
    assert_eq!(
        problem(json!({ "min_learning_rate": 0.001, "schedule": "constant" })),
        "min_learning_rate: has no effect with schedule = \"constant\""
    );
    assert_eq!(problem(json!({ "micro_batch": 7 })), "micro_batch: must be at most batch (6), not 7");
}

/// The failure of a training, which must leave nothing to continue from.
fn failure(more: serde_json::Value) -> (String, Option<String>) {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let mut harness = harness(folder.path());
    harness.scratch = Some(scratch.clone());
    if more.get("validate_every").is_some_and(serde_json::Value::is_null) {
        harness.inputs.remove("valid");
    }
    let StageError::Failed(failure) = harness.run::<Train>(with(more)).unwrap_err() else { panic!("interrupted") };
    assert_eq!(model::train::checkpoint::newest(&scratch), None, "nothing is resumed from it");
    (failure.message, failure.hint)
}

/// A rate at which the first update leaves the range of `f32`: of weights whose gradient is 0 it makes NaN.
const TOO_HIGH: f64 = 3e38;

#[test]
fn an_update_that_makes_weights_infinite_fails_though_its_loss_was_finite() {
    let last = json!({ "learning_rate": TOO_HIGH, "warmup": 0, "steps": 1, "validate_every": null });
    let (message, hint) = failure(last);
    assert!(message.starts_with("step 1: tensor 'transformer."), "{message}");
    assert!(message.contains("' is not finite: it contains "), "{message}");
    assert_eq!(hint.as_deref(), Some("lower learning_rate, or raise warmup"));
}

#[test]
fn a_validation_loss_that_is_not_finite_fails() {
    let (message, hint) = failure(json!({ "learning_rate": TOO_HIGH, "warmup": 0, "steps": 1 }));
    assert_eq!(message, "step 1: the validation loss is NaN");
    assert_eq!(hint.as_deref(), Some("lower learning_rate, or raise warmup"));
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let more = json!({
        "learning_rate": TOO_HIGH, "warmup": 0, "steps": 2, "checkpoint_every": 1, "validate_every": null
    });
    let (message, _) = failure(more);
    assert!(message.starts_with("step 1: tensor 'p."), "{message}");
}

#[test]
fn a_model_that_is_not_finite_is_not_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let mut outputs = harness.run::<Train>(with(json!({ "steps": 2, "warmup": 0 }))).unwrap();
    let model = outputs.get_mut("model").unwrap();
    let weights = model.files.iter_mut().find(|file| file.path.as_str() == "model.safetensors").unwrap();
    let mut bytes = std::fs::read(&weights.location).unwrap();
    bytes.last_chunk_mut::<4>().unwrap().copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    weights.location = folder.path().join("infinite");
    std::fs::write(&weights.location, bytes).unwrap();
    harness.connect("init", model);
    let more = json!({ "batch": 3, "steps": 2, "learning_rate": 0.01 });
    let StageError::Failed(failure) = harness.run::<Train>(more).unwrap_err() else { panic!("interrupted") };
    assert!(failure.message.ends_with("is not finite: it contains -inf"), "{}", failure.message);
    assert!(failure.hint.unwrap().contains("diverged"));
}
