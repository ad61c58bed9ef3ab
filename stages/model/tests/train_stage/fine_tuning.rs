//! Training that starts from a model: an earlier stage's, or one of another program.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use contract::harness::Harness;
use contract::{InputTree, StageError};
use model::folder::ModelFolder;
use model::import_model::ImportModel;
use model::parameters::{host_values, parameters};
use model::train::Train;
use serde_json::{Value, json};
use tokens::alphabet;

use crate::{BYTES, Outputs, digests, harness, tokenizer, tokenizer_of, tokens, tree, with};

/// A harness with tokens and a tokenizer of the 256 bytes.
fn bytes_harness(folder: &Path) -> Harness {
    let mut harness = harness(folder);
    harness.connect("tokenizer", &tokenizer(folder));
    harness.connect("train", &tokens(folder, "bytes", BYTES, 40)).inputs.remove("valid");
    harness
}

/// Copies the files of a tree into a directory of their names.
fn export(tree: &InputTree, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for file in &tree.files {
        fs::copy(&file.location, folder.join(file.path.as_str())).unwrap();
    }
}

fn import(folder: &Path, source: &Path) -> Result<Outputs, StageError> {
    Harness::new(folder).run::<ImportModel>(json!({ "source": source.join("*").to_str().unwrap() }))
}

/// The weights of a model, tensor by tensor.
fn values(tree: &InputTree) -> Vec<Vec<f32>> {
    let (_, model) = ModelFolder::of(tree).unwrap().load(&Device::flex()).unwrap();
    parameters(&model).into_iter().map(|tensor| host_values(tensor).unwrap()).collect()
}

/// Settings whose only update has the rate 0: the model that is written is the one that was read.
fn unchanged(more: Value) -> Value {
    let mut settings = json!({ "batch": 2, "steps": 1, "warmup": 1, "learning_rate": 0.001 });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn failure(result: Result<Outputs, StageError>) -> (String, String) {
    let StageError::Failed(failure) = result.unwrap_err() else { panic!("interrupted") };
    (failure.message, failure.hint.unwrap_or_default())
}

#[test]
fn a_model_that_was_exported_is_imported_and_trained_on_as_if_it_had_stayed() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = bytes_harness(folder.path());
    let first = harness.run::<Train>(with(json!({ "steps": 3 }))).unwrap();
    let exported = folder.path().join("exported");
    export(&first["model"], &exported);
    // What the Hub has beside them.
    fs::write(exported.join("pytorch_model.bin"), "of another program").unwrap();
    fs::write(exported.join("README.md"), "a card").unwrap();
    let imported = import(&folder.path().join("import"), &exported).unwrap();
    assert_eq!(imported["model"].digest, first["model"].digest);
    let paths: Vec<_> = imported["tokenizer"].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["tokenizer.json", "tokenizer_config.json"]);
    let mut trained = |init: &InputTree, tokenizer: &InputTree| {
        harness.connect("init", init).connect("tokenizer", tokenizer);
        digests(&harness.run::<Train>(json!({ "batch": 2, "steps": 2, "learning_rate": 0.001 })).unwrap())
    };
    let again = trained(&imported["model"], &imported["tokenizer"]);
    assert_eq!(again, trained(&first["model"], &tokenizer(folder.path())));
}

#[test]
fn a_directory_that_is_no_whole_model_is_refused_with_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let first = bytes_harness(folder.path()).run::<Train>(with(json!({ "steps": 2 }))).unwrap();
    for (file, hint) in [
        ("config.json", "save_pretrained"),
        ("model.safetensors", "in one file"),
        ("tokenizer.json", "AutoTokenizer.from_pretrained(NAME).save_pretrained(DIRECTORY)"),
    ] {
        let exported = folder.path().join(file).with_extension("missing");
        export(&first["model"], &exported);
        fs::remove_file(exported.join(file)).unwrap();
        let (message, found) = failure(import(&exported.with_extension("import"), &exported));
        assert_eq!(message, format!("there is no file '{file}'"));
        assert!(found.contains(hint), "{found}");
    }
    let exported = folder.path().join("other");
    export(&first["model"], &exported);
    let more = tokenizer_of(folder.path(), "more", alphabet::bytes(), &["<|more|>"]);
    fs::copy(&more.required("tokenizer.json").unwrap().location, exported.join("tokenizer.json")).unwrap();
    let (message, _) = failure(import(&folder.path().join("import"), &exported));
    assert_eq!(message, "the tokenizer has 258 ids, the model a vocabulary of 257");
}

#[test]
fn a_resized_vocabulary_has_new_rows_at_the_mean_and_keeps_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = bytes_harness(folder.path());
    let first = harness.run::<Train>(with(json!({ "steps": 5 }))).unwrap();
    let before = values(&first["model"]);
    let more = tokenizer_of(folder.path(), "more", alphabet::bytes(), &["<|one|>", "<|two|>", "<|three|>"]);
    harness.connect("tokenizer", &more).connect("init", &first["model"]);
    harness.connect("train", &tokens(folder.path(), "more", BYTES + 3, 40));
    let (message, hint) = failure(harness.run::<Train>(unchanged(json!({}))));
    assert_eq!(message, "the model of 'init' has a vocabulary of 257, but the tokens have one of 260");
    assert!(hint.ends_with("or set resize_vocabulary if the other one extends it"), "{hint}");
    let outputs = harness.run::<Train>(unchanged(json!({ "resize_vocabulary": true }))).unwrap();
    let after = values(&outputs["model"]);
    assert_eq!(after[1..], before[1..]);
    let (old, new) = after[0].split_at(before[0].len());
    assert_eq!(old, before[0]);
    for (column, value) in new.iter().enumerate() {
        let column = before[0].iter().skip(column % 32).step_by(32);
        let mean = column.map(|value| f64::from(*value)).sum::<f64>() / f64::from(BYTES);
        assert!((f64::from(*value) - mean).abs() < 1e-8, "{value} {mean}");
    }
    assert_eq!(new.len(), 3 * 32);
    // And back again.
    harness.connect("tokenizer", &tokenizer(folder.path())).connect("init", &outputs["model"]);
    harness.connect("train", &tokens(folder.path(), "bytes", BYTES, 40));
    let outputs = harness.run::<Train>(unchanged(json!({ "resize_vocabulary": true }))).unwrap();
    assert_eq!(values(&outputs["model"]), before);
}

#[test]
fn tokens_of_another_tokenizer_than_the_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = bytes_harness(folder.path());
    let first = harness.run::<Train>(with(json!({ "steps": 2 }))).unwrap();
    harness.connect("init", &first["model"]);
    let mut bytes = *alphabet::bytes();
    bytes.swap(7, 8);
    harness.connect("tokenizer", &tokenizer_of(folder.path(), "swapped", &bytes, &[]));
    for more in [json!({}), json!({ "resize_vocabulary": true })] {
        let (message, hint) = failure(harness.run::<Train>(unchanged(more)));
        assert!(
            message.starts_with("the model of 'init' was trained with another tokenizer: its token 8 is"),
            "{message}"
        );
        assert_eq!(hint, "pack with the tokenizer of that model");
    }
    // Without the input 'tokenizer' only the end of a document can be compared.
    harness.inputs.remove("tokenizer");
    let mut other = fs::read(&harness.inputs["train"].files[0].location).unwrap();
    other[20..24].copy_from_slice(&5u32.to_le_bytes());
    harness.connect("train", &tree(folder.path(), "end", &[("tokens.bin", &other)]));
    let (message, _) = failure(harness.run::<Train>(unchanged(json!({}))));
    assert_eq!(message, "the model of 'init' ends documents with token 0, the tokens were packed with 5");
}
