//! What `train` infers before anything runs.

use contract::{Digest, Fact, Facts, Inferred, InputFacts, InputFile, InputTree, Kind, Origin, Shape};
use model::Gpt2Config;
use model::config::Preset;
use model::train::Train;
use serde_json::{Value, json};
use tokens::packed::{Header, PackedWriter};

fn decided<T>(value: T, stage: &str, setting: &str) -> Option<Fact<T>> {
    Some(Fact { value, origin: Origin { stage: stage.to_owned(), setting: setting.to_owned() } })
}

fn tokenizer(stage: &str, vocabulary: u64) -> Facts {
    let vocabulary = decided(vocabulary, stage, "vocabulary");
    Facts { tokenizer: decided((), stage, ""), vocabulary, ..Facts::default() }
}

fn tokens(stage: &str, sequence_length: u64) -> Facts {
    Facts { sequence_length: decided(sequence_length, "pack", "sequence_length"), ..tokenizer(stage, 32_768) }
}

fn model(stage: &str, vocabulary: u64, positions: u64) -> Facts {
    let positions = decided(positions, "before", "sequence_length");
    Facts { positions, parameters: decided(7, "before", ""), ..tokenizer(stage, vocabulary) }
}

fn infer(more: Value, ports: &[(&str, Facts)]) -> Inferred {
    let mut settings = json!({ "batch": 8, "micro_batch": 4, "steps": 10, "learning_rate": 0.001 });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let stage = Kind::of::<Train>().parse(settings.as_object().unwrap()).unwrap();
    stage.infer(&InputFacts::new(ports.iter().map(|(port, facts)| ((*port).to_owned(), facts.clone())).collect()))
}

/// The place, the message and the other stage of each conflict.
fn conflicts(inferred: &Inferred) -> Vec<(&str, &str, &str)> {
    let conflicts = inferred.conflicts.iter();
    conflicts
        .map(|conflict| (conflict.setting.as_str(), conflict.message.as_str(), conflict.with.stage.as_str()))
        .collect()
}

#[test]
fn a_training_that_fits_tells_its_model_and_its_cost() {
    let ports = [("train", tokens("a", 1024)), ("valid", tokens("a", 1024)), ("tokenizer", tokenizer("a", 32_768))];
    let inferred = infer(json!({ "preset": "gpt2" }), &ports);
    assert_eq!(conflicts(&inferred), []);
    let parameters = Gpt2Config::preset(Preset::Gpt2, 32_768, 1024).parameters() as u64;
    let facts = &inferred.outputs["model"];
    assert_eq!(facts.parameters, Some(Fact::own(parameters, "")));
    assert_eq!(facts.positions, decided(1024, "pack", "sequence_length"));
    assert_eq!(facts.vocabulary, decided(32_768, "a", "vocabulary"));
    assert_eq!(facts.tokenizer, decided((), "a", ""));
    let cost = inferred.cost;
    assert_eq!((cost.tokens, cost.updates), (Some(10 * 8 * 1024), Some(10)));
    let each = 6.0 * parameters as f64 + 12.0 * 12.0 * 768.0 * 1024.0;
    assert_eq!(cost.flops, Some(each * 81_920.0));
    assert!(cost.memory > Some(20 * parameters) && cost.disk > Some(12 * parameters), "{cost:?}");
}

#[test]
fn without_sizes_or_facts_there_is_no_cost() {
    assert_eq!(infer(json!({}), &[("train", tokens("a", 64))]).cost, contract::Cost::default());
    assert_eq!(infer(json!({ "preset": "gpt2" }), &[("train", Facts::default())]).cost, contract::Cost::default());
}

#[test]
fn a_training_that_goes_on_has_the_sizes_of_its_model() {
    let ports = [("train", tokens("a", 512)), ("init", model("a", 32_768, 1024))];
    let inferred = infer(json!({}), &ports);
    assert_eq!(conflicts(&inferred), []);
    let facts = &inferred.outputs["model"];
    assert_eq!(facts.positions, decided(1024, "before", "sequence_length"));
    assert_eq!(facts.parameters, decided(7, "before", ""));
    let sized = infer(json!({ "preset": "gpt2" }), &ports);
    let parameters = Gpt2Config::preset(Preset::Gpt2, 32_768, 1024).parameters() as u64;
    assert_eq!(sized.outputs["model"].parameters, Some(Fact::own(parameters, "")), "positions are those of 'init'");
    assert_eq!(sized.cost.tokens, Some(10 * 8 * 512));
}

#[test]
fn a_training_that_goes_on_costs_what_its_model_costs() {
    let sizes = Gpt2Config { vocabulary: 32_768, positions: 1024, width: 256, layers: 4, heads: 4, end_of_text: None };
    let ports = |init: Facts| [("train", tokens("a", 512)), ("init", init)];
    let new = infer(json!({ "layers": 4, "width": 256, "heads": 4 }), &ports(model("a", 32_768, 1024)));
    let before = Facts { tokenizer: decided((), "a", ""), ..sizes.facts() };
    let more = infer(json!({}), &ports(before));
    assert_eq!(more.cost, new.cost);
    assert_eq!(more.outputs["model"].shape.as_ref().unwrap().value, Shape { layers: 4, width: 256, heads: 4 });
    assert_eq!(more.outputs["model"].parameters.as_ref().unwrap().value, sizes.parameters() as u64);
    let memory = more.cost.memory.unwrap();
    assert!((1 << 28..2 << 30).contains(&memory), "12 million parameters, 4 sequences of 512: {memory}");
    assert_eq!(
        infer(json!({}), &ports(Facts::default())).cost,
        contract::Cost::default(),
        "rather none than a wrong one"
    );
}

#[test]
fn what_settings_do_not_decide_is_read_from_the_headers_of_the_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = Gpt2Config { vocabulary: 61, positions: 32, width: 16, layers: 2, heads: 2, end_of_text: None };
    let header =
        Header { vocabulary: 61, end_of_text: 0, sequence_length: 16, sequences: 0, documents: 0, text_bytes: 0 };
    let packed = PackedWriter::new(Vec::new(), header).unwrap().finish().unwrap();
    let config = model::folder::config_json(&sizes).to_string();
    let file = |path: &str, content: &[u8]| {
        let location = folder.path().join(path);
        std::fs::write(&location, content).unwrap();
        let (path, digest) = (path.parse().unwrap(), Digest::of(content));
        InputFile { path, location, digest, size: content.len() as u64 }
    };
    let tree = |files: Vec<InputFile>| InputTree { digest: files[0].digest, files };
    let trees = [
        ("init", tree(vec![file("config.json", config.as_bytes()), file("model.safetensors", b"not looked at")])),
        ("train", tree(vec![file("tokens.bin", &packed)])),
    ];
    let trees = std::collections::BTreeMap::from(trees);
    let settings = json!({ "batch": 4, "steps": 10, "learning_rate": 0.001 });
    let stage = Kind::of::<Train>().parse(settings.as_object().unwrap()).unwrap();
    let unknown =
        InputFacts::new([("train".to_owned(), Facts::default()), ("init".to_owned(), Facts::default())].into());
    let mut known = unknown.clone();
    stage.observe(&mut known, &|_| None);
    assert_eq!(known, unknown, "nothing is there yet");
    stage.observe(&mut known, &|port| trees.get(port).cloned());
    let cost = stage.infer(&known).cost;
    assert_eq!(cost.tokens, Some(10 * 4 * 16));
    let parameters = sizes.parameters() as f64;
    assert_eq!(cost.flops, Some((6.0 * parameters + 12.0 * 2.0 * 16.0 * 16.0) * 640.0));
    // A setting is believed before a header: the input may be made anew.
    let decided = Facts { shape: sizes.facts().shape, ..model("a", 61, 1024) };
    let mut known =
        InputFacts::new([("train".to_owned(), tokens("a", 64)), ("init".to_owned(), decided.clone())].into());
    stage.observe(&mut known, &|port| trees.get(port).cloned());
    assert_eq!((known.port("init"), known.port("train").sequence_length.unwrap().value), (decided, 64));
}

#[test]
fn the_best_model_is_known_like_the_last_and_needs_validation_tokens() {
    let best = json!({ "preset": "gpt2", "keep_best": true });
    let with_valid = infer(best.clone(), &[("train", tokens("a", 64)), ("valid", tokens("a", 64))]);
    assert_eq!(conflicts(&with_valid), []);
    assert_eq!(with_valid.outputs["best"], with_valid.outputs["model"]);
    let without = infer(best, &[("train", tokens("a", 64))]);
    let message = "keep_best needs a validation loss, and the input 'valid' is not connected";
    assert_eq!(conflicts(&without), [("keep_best", message, "")]);
}

#[test]
fn tokens_of_two_tokenizers_conflict() {
    let ports = [("train", tokens("a", 64)), ("valid", tokens("b", 64)), ("tokenizer", tokenizer("c", 32_768))];
    assert_eq!(
        conflicts(&infer(json!({}), &ports)),
        [
            ("inputs.valid", "training and validation have two tokenizers", "b"),
            ("inputs.tokenizer", "the tokens and the model's directory have two tokenizers", "c"),
        ]
    );
}

#[test]
fn sequences_of_two_lengths_conflict() {
    let mut valid = tokens("a", 32);
    valid.sequence_length = decided(32, "other", "sequence_length");
    let inferred = infer(json!({}), &[("train", tokens("a", 64)), ("valid", valid)]);
    let message = "training has sequences of 64 tokens, but validation has sequences of 32";
    assert_eq!(conflicts(&inferred), [("inputs.valid", message, "other")]);
}

#[test]
fn a_model_of_another_tokenizer_conflicts() {
    let inferred = infer(json!({}), &[("train", tokens("b", 64)), ("init", model("a", 32_768, 64))]);
    let message = "the model of 'init' and the tokens have two tokenizers";
    assert_eq!(conflicts(&inferred), [("inputs.train", message, "b")]);
}

#[test]
fn a_model_of_another_vocabulary_conflicts_once() {
    let inferred = infer(json!({}), &[("train", tokens("b", 64)), ("init", model("a", 500, 64))]);
    let message = "the model of 'init' has a vocabulary of 500, but the tokens have one of 32768";
    assert_eq!(conflicts(&inferred), [("inputs.train", message, "b")]);
    assert_eq!(inferred.conflicts[0].with.setting, "vocabulary");
    assert_eq!(
        inferred.conflicts[0].hint,
        "pack with the tokenizer of that model, or set resize_vocabulary if the other one extends it"
    );
    let resized =
        infer(json!({ "resize_vocabulary": true }), &[("train", tokens("b", 64)), ("init", model("a", 500, 64))]);
    assert_eq!(conflicts(&resized), []);
    assert_eq!(resized.outputs["model"].vocabulary, decided(32_768, "b", "vocabulary"));
}

#[test]
fn sequences_longer_than_the_model_reads_conflict() {
    let inferred = infer(json!({}), &[("train", tokens("a", 128)), ("init", model("a", 32_768, 64))]);
    let message = "the model of 'init' reads at most 64 tokens, but the sequences have 128";
    assert_eq!(conflicts(&inferred), [("inputs.train", message, "pack")]);
}
