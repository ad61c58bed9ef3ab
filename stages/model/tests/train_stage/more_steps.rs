//! A training with more steps that continues one with fewer.

use contract::StageError;
use model::train::Train;
use serde_json::{Value, json};

use crate::{Outputs, digests, harness, tokens, with};

/// Twelve steps at a constant rate after the warm-up, whose state is kept.
fn stable(more: Value) -> Value {
    let mut settings = with(json!({ "schedule": "constant", "keep_state": true, "residual_dropout": 0.1 }));
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn failure(result: Result<Outputs, StageError>) -> String {
    let StageError::Failed(failure) = result.unwrap_err() else { panic!("interrupted") };
    failure.message
}

#[test]
fn it_ends_with_the_bytes_of_one_that_had_them_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let short = harness.run::<Train>(stable(json!({}))).unwrap();
    let decaying = json!({ "schedule": "warmup-stable-decay", "decay": 8 });
    for more in [json!({}), json!({ "learning_rate": 0.01, "min_learning_rate": 0.0 }), decaying] {
        let mut long = stable(more);
        long["steps"] = 20.into();
        harness.inputs.remove("resume");
        let expected = digests(&harness.run::<Train>(long.clone()).unwrap());
        harness.connect("resume", &short["state"]);
        harness.progress = contract::Progress::default();
        assert_eq!(digests(&harness.run::<Train>(long.clone()).unwrap()), expected, "{long}");
        assert_eq!(harness.progress.rate().map(|_| harness.progress.sample().done), Some(20));
        let notes = harness.progress.drain();
        let resumed = contract::Note::Info { text: "resumed after step 12".to_owned() };
        assert!(notes.contains(&resumed), "{notes:?}");
    }
    // In two pieces.
    let mut middle = stable(json!({}));
    middle["steps"] = 15.into();
    let middle = harness.run::<Train>(middle).unwrap();
    let mut long = stable(json!({}));
    long["steps"] = 20.into();
    harness.inputs.remove("resume");
    let expected = digests(&harness.run::<Train>(long.clone()).unwrap());
    harness.connect("resume", &middle["state"]);
    assert_eq!(digests(&harness.run::<Train>(long).unwrap()), expected);
}

#[test]
fn a_state_of_another_training_is_refused_with_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let short = harness.run::<Train>(stable(json!({}))).unwrap();
    harness.connect("resume", &short["state"]);
    for (more, expected) in [
        (json!({ "z_loss": 0.1 }), "the state of 'resume' is of another training: z_loss 0.0, not 0.1"),
        (json!({ "batch": 3 }), "the state of 'resume' is of another training: batch 6, not 3"),
        (json!({ "steps": 11 }), "the state of 'resume' is of step 12, and steps is 11"),
        (
            json!({ "steps": 20, "warmup": 4 }),
            "the state of 'resume' has another learning rate at step 1: 0.005, not 0.0025",
        ),
        (
            json!({ "steps": 20, "schedule": "warmup-stable-decay", "decay": 10 }),
            "the state of 'resume' has another learning rate at step 11: 0.01, not 0.009755282581475769",
        ),
        (json!({ "steps": 20, "schedule": "cosine" }), "the state of 'resume' has another learning rate at step 3: "),
    ] {
        let message = failure(harness.run::<Train>(stable(more)));
        assert!(message.starts_with(expected), "{message}");
    }
    harness.seed = 2;
    let message = failure(harness.run::<Train>(stable(json!({}))));
    assert_eq!(message, "the state of 'resume' is of another training: seed 1, not 2");
    harness.seed = 1;
    harness.connect("valid", &tokens(folder.path(), "other", crate::VOCABULARY, 8));
    let message = failure(harness.run::<Train>(stable(json!({}))));
    assert_eq!(message, "the state of 'resume' is of another training: its input 'valid' was another");
    let message = failure(harness.run::<Train>(stable(json!({ "keep_best": true }))));
    assert_eq!(message, "keep_state: cannot be combined with keep_best: the best model is no part of the state");
}
