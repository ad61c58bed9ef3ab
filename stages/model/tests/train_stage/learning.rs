//! What training gives, and what it depends on.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{InputTree, Note};
use model::folder::ModelFolder;
use model::parameters::host_values;
use model::train::Train;
use serde_json::{Value, json};
use tokens::packed::{Header, PackedWriter};

use crate::{
    BYTES, LENGTH, Outputs, VOCABULARY, digests, harness, lines, read, settings, short_tokens, tokenizer, tokens, tree,
    uninterrupted, with,
};

#[test]
fn training_learns_what_can_be_learned() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let outputs = harness.run::<Train>(with(json!({ "steps": 60, "min_learning_rate": 0.001 }))).unwrap();
    let lines = lines(&outputs);
    let updates: Vec<_> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    let validations: Vec<_> = lines.iter().filter(|line| line.get("validation_loss").is_some()).collect();
    assert_eq!((updates.len(), validations.len()), (60, 12));
    assert_eq!(updates[0]["learning_rate"], json!(0.0));
    assert_eq!(updates[59]["tokens"], json!(60 * 6 * LENGTH));
    let first = updates[0]["loss"].as_f64().unwrap();
    assert!((first - f64::from(VOCABULARY).ln()).abs() < 0.1, "an untrained model guesses evenly: {first}");
    let last = validations[11]["validation_loss"].as_f64().unwrap();
    assert!(last < 1.0, "{last}");
    let report: Value = serde_json::from_slice(&read(&outputs, "metrics", "report.json")).unwrap();
    assert_eq!(report["validation_loss"].as_f64(), Some(last));
    assert_eq!(report["epochs"], json!(9.0));
    let notes = harness.progress.drain();
    assert!(notes.iter().any(|note| matches!(note, Note::Metric { name, step: 60, .. } if name == "loss/train")));
    assert!(notes.iter().any(|note| matches!(note, Note::Info { text } if text.contains("60 steps"))));
}

#[test]
fn the_model_is_written_with_its_tokenizer_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("tokenizer", &tokenizer(folder.path()));
    harness.connect("train", &tokens(folder.path(), "bytes", BYTES, 40)).inputs.remove("valid");
    let outputs = harness.run::<Train>(settings()).unwrap();
    let paths: Vec<_> = outputs["model"].files.iter().map(|file| file.path.as_str().to_owned()).collect();
    let expected =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(paths, expected);
    let (config, model) = ModelFolder::of(&outputs["model"]).unwrap().load(&Device::flex()).unwrap();
    assert_eq!((config.vocabulary, config.positions, config.end_of_text), (BYTES as usize, LENGTH, Some(0)));
    let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![0i32, 3, 6, 9], [1, 4]), &Device::flex());
    let logits = host_values(model.forward(ids).flatten::<1>(0, 2)).unwrap();
    assert!(logits.iter().all(|logit| logit.is_finite()));
    let settings: Value = serde_json::from_slice(&read(&outputs, "model", "tokenizer_config.json")).unwrap();
    let own = json!({ "eos_token": "<|endoftext|>", "model_max_length": LENGTH, "padding_side": "left" });
    assert_eq!(settings, own, "the longest sequence is the model's, all else the tokenizer's");
}

#[test]
fn a_model_that_goes_on_keeps_its_positions_in_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("tokenizer", &tokenizer(folder.path()));
    harness.connect("train", &tokens(folder.path(), "bytes", BYTES, 40)).inputs.remove("valid");
    let first = harness.run::<Train>(with(json!({ "steps": 2 }))).unwrap();
    let short = short_tokens(folder.path(), "short", BYTES, 40, LENGTH / 2);
    harness.connect("init", &first["model"]).connect("train", &short);
    let settings = json!({ "batch": 2, "steps": 1, "learning_rate": 0.001 });
    let outputs = harness.run::<Train>(settings).unwrap();
    let file = |path: &str| -> Value { serde_json::from_slice(&read(&outputs, "model", path)).unwrap() };
    assert_eq!(file("config.json")["n_positions"], json!(LENGTH));
    assert_eq!(file("tokenizer_config.json")["model_max_length"], json!(LENGTH));
}

#[test]
fn outputs_are_equal_for_any_number_of_threads() {
    let every_dropout = json!({ "embedding_dropout": 0.1, "attention_dropout": 0.1, "residual_dropout": 0.1 });
    for more in [json!({}), every_dropout] {
        let run = |threads| {
            let folder = tempfile::tempdir().unwrap();
            let mut harness = harness(folder.path());
            harness.resources.threads = threads;
            digests(&harness.run::<Train>(with(more.clone())).unwrap())
        };
        let one = run(1);
        assert_eq!(run(2), one);
        assert_eq!(run(3), one);
    }
}

#[test]
fn every_new_setting_has_an_effect_of_its_own() {
    let run = |more: Value| {
        let folder = tempfile::tempdir().unwrap();
        digests(&harness(folder.path()).run::<Train>(with(more)).unwrap())
    };
    let settings = [
        json!({}),
        json!({ "schedule": "linear" }),
        json!({ "schedule": "constant" }),
        json!({ "schedule": "warmup-stable-decay", "decay": 2 }),
        json!({ "schedule": "warmup-stable-decay", "decay": 5 }),
        json!({ "residual_scaling": false }),
        json!({ "z_loss": 0.1 }),
        json!({ "embedding_dropout": 0.1 }),
        json!({ "attention_dropout": 0.1 }),
        json!({ "residual_dropout": 0.1 }),
        json!({ "epsilon": 1e-3 }),
        json!({ "beta1": 0.5 }),
        json!({ "beta2": 0.5 }),
    ];
    let outputs: Vec<_> = settings.iter().map(|more| run(more.clone())).collect();
    for (at, one) in outputs.iter().enumerate() {
        assert!(!outputs[..at].contains(one), "{}", settings[at]);
    }
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
        let more = json!({ "width": 256, "heads": 4, "batch": 16, "micro_batch": null, "steps": 3 });
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

#[test]
fn micro_batches_of_any_size_give_the_update_of_one_large_pass() {
    let run = |micro_batch: u64| {
        let folder = tempfile::tempdir().unwrap();
        // The sequences differ, so that a wrong weight of the last, smaller pass shows.
        let more = json!({ "micro_batch": micro_batch, "steps": 8, "min_learning_rate": 0.005 });
        lines(&harness(folder.path()).run::<Train>(with(more)).unwrap())
    };
    let whole = run(6);
    for micro_batch in [1, 3, 4, 5] {
        for (one, other) in whole.iter().zip(run(micro_batch)) {
            for key in ["loss", "gradient_norm", "validation_loss"] {
                let Some(one) = one[key].as_f64() else { continue };
                let other = other[key].as_f64().unwrap();
                assert!((one - other).abs() < 1e-4, "{micro_batch} a pass, {key}: {one} {other}");
            }
        }
    }
}

#[test]
fn training_goes_on_from_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let first = harness.run::<Train>(with(json!({ "steps": 60 }))).unwrap();
    harness.connect("init", &first["model"]);
    let settings = json!({ "batch": 6, "steps": 1, "learning_rate": 0.001 });
    let more = harness.run::<Train>(settings.clone()).unwrap();
    let end = |outputs: &Outputs| lines(outputs).last().unwrap()["validation_loss"].as_f64().unwrap();
    assert!((end(&more) - end(&first)).abs() < 0.2, "{} {}", end(&more), end(&first));
    harness
        .connect("train", &tokens(folder.path(), "other", 99, 40))
        .connect("valid", &tokens(folder.path(), "o", 99, 4));
    let error = harness.run::<Train>(settings).unwrap_err();
    assert_eq!(error.to_string(), "the model of 'init' has a vocabulary of 61, but the tokens have one of 99");
}

#[test]
fn the_best_model_is_the_one_with_the_lowest_validation_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    // Sequences that count downwards: what is learned makes them less likely.
    harness.connect("valid", &downwards(folder.path()));
    let outputs = harness.run::<Train>(with(json!({ "keep_best": true, "validate_every": 4, "steps": 60 }))).unwrap();
    let losses = |outputs: &Outputs| -> Vec<f64> {
        lines(outputs).iter().filter_map(|line| line["validation_loss"].as_f64()).collect()
    };
    let all = losses(&outputs);
    let best = all.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(all.len() == 15 && best < all[14] - 0.01, "{all:?}");
    // An update with the rate 0 leaves it as it is.
    harness.connect("init", &outputs["best"]);
    let again = harness
        .run::<Train>(json!({ "batch": 2, "steps": 1, "warmup": 1, "learning_rate": 0.001, "validate_sequences": 7 }));
    let again = losses(&again.unwrap())[0];
    assert!((again - best).abs() < 1e-6, "{again} {best}");
    harness.inputs.remove("valid");
    harness.inputs.remove("init");
    let error = harness.run::<Train>(with(json!({ "keep_best": true }))).unwrap_err().to_string();
    assert_eq!(error, "keep_best needs a validation loss, and the input 'valid' is not connected");
    assert_eq!(harness.progress.sample().done, 1, "the update of the run before");
}

/// Sequences that count downwards modulo the vocabulary.
fn downwards(folder: &Path) -> InputTree {
    let header = Header {
        vocabulary: VOCABULARY,
        end_of_text: 0,
        sequence_length: LENGTH as u64,
        sequences: 9,
        documents: 1,
        text_bytes: 1,
    };
    let mut writer = PackedWriter::new(Vec::new(), header).unwrap();
    for sequence in 0..9 {
        let ids: Vec<_> = (0..LENGTH as u32).map(|at| (sequence * 7 + (61 - at) * 3) % VOCABULARY).collect();
        writer.push(&ids).unwrap();
    }
    tree(folder, "downwards", &[("tokens.bin", &writer.finish().unwrap())])
}
