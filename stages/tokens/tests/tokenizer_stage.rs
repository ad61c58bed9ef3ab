//! The stage kind `tokenizer` on tables of documents.

mod corpus;

use std::collections::BTreeMap;

use contract::InputTree;
use contract::harness::Harness;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokens::Tokenizer;
use tokens::text::TextTokenizer;

fn train(harness: &mut Harness, settings: Value) -> contract::Result<BTreeMap<String, InputTree>> {
    harness.run::<Tokenizer>(settings)
}

fn small(texts: &[String], shards: &[&str], settings: Value) -> BTreeMap<String, InputTree> {
    let folder = tempfile::tempdir().unwrap().keep();
    let mut harness = Harness::new(&folder);
    harness.connect("documents", &corpus::table(&folder.join("table"), texts, shards));
    train(&mut harness, settings).unwrap()
}

fn reference(tree: &InputTree) -> tokenizers::Tokenizer {
    let mut reference = tokenizers::Tokenizer::from_bytes(corpus::read(tree, "tokenizer.json")).unwrap();
    reference.set_encode_special_tokens(true);
    reference
}

fn report(outputs: &BTreeMap<String, InputTree>) -> Value {
    serde_json::from_slice(&corpus::read(&outputs["report"], "report.json")).unwrap()
}

#[test]
fn ids_are_the_special_token_then_the_bytes_then_the_merges() {
    let outputs = small(&corpus::invented(300), &["a"], json!({ "vocabulary": 400 }));
    let reference = reference(&outputs["tokenizer"]);
    assert_eq!(reference.get_vocab_size(true), 400);
    let token = |id| reference.id_to_token(id).unwrap();
    assert_eq!([token(0), token(1), token(2), token(256)], ["<|endoftext|>", "!", "\"", "\u{143}"]);
    assert!(token(257).chars().count() == 2);
    let tokenizer = TextTokenizer::open(&outputs["tokenizer"]).unwrap();
    assert_eq!((tokenizer.end_of_text(), tokenizer.vocabulary()), (0, 400));
    assert_eq!(tokenizer.token_bytes(1), b"!");
    assert_eq!(tokenizer.token_bytes(400), b"");
}

#[test]
fn the_bytes_do_not_depend_on_threads_memory_or_shards() {
    let texts = corpus::invented(500);
    let digests = |shards: &[&str], threads, memory| {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(folder.path());
        (harness.resources.threads, harness.resources.memory) = (threads, memory);
        harness.connect("documents", &corpus::table(&folder.path().join("table"), &texts, shards));
        let outputs = train(&mut harness, json!({ "vocabulary": 500, "documents": 200 })).unwrap();
        (outputs["tokenizer"].digest, outputs["report"].digest)
    };
    let one = digests(&["a"], 1, 1 << 30);
    for other in [digests(&["a"], 4, 1 << 30), digests(&["x", "y", "z"], 2, 1 << 30), digests(&["p", "q"], 2, 4096)] {
        assert_eq!(one, other);
    }
}

#[test]
fn the_sample_follows_the_seed_and_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &corpus::table(&folder.path().join("table"), &corpus::invented(500), &["a", "b"]));
    let one = train(&mut harness, json!({ "vocabulary": 600, "documents": 100 })).unwrap();
    assert_eq!(report(&one)["training"]["documents"], 100);
    assert_eq!(report(&one)["training"]["documents_of_input"], 500);
    harness.seed = 2;
    let other = train(&mut harness, json!({ "vocabulary": 600, "documents": 100 })).unwrap();
    assert_ne!(one["tokenizer"].digest, other["tokenizer"].digest);
    let all = train(&mut harness, json!({ "vocabulary": 600, "documents": 500 })).unwrap();
    assert_eq!(report(&all)["training"]["documents"], 500);
}

#[test]
fn the_report_measures_what_the_tokenizer_does() {
    let texts = corpus::invented(400);
    let outputs = small(&texts, &["a"], json!({ "vocabulary": 450 }));
    let report = report(&outputs);
    let tokenizer = TextTokenizer::open(&outputs["tokenizer"]).unwrap();
    let tokens: usize = texts.iter().map(|text| tokenizer.encode(text).unwrap().len()).sum();
    let characters: usize = texts.iter().map(|text| text.chars().count()).sum();
    assert_eq!(report["sample"]["documents"], 400);
    assert_eq!(report["sample"]["tokens"], tokens);
    assert_eq!(report["sample"]["characters"], characters);
    // All documents are in the sample and in training, and encoding cuts words as learning left them.
    assert_eq!(report["training"]["tokens"], tokens);
    assert_eq!(report["training"]["words"], report["sample"]["words"]);
    assert_eq!(report["keywords"]["count"], 35);
    let missing = report["keywords"]["missing"].as_array().unwrap();
    assert!(missing.contains(&json!("nonlocal")) && !missing.contains(&json!("def")), "{missing:?}");
    let program: String = report["program"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(program, "def say_hello():\n    print(\"Hello, World!\")\n# Print it\nsay_hello()\n");
    assert!(report["indentation"]["newline_spaces"].as_array().unwrap().contains(&json!(3)));
    assert!(corpus::read(&outputs["report"], "report.md").starts_with(b"# Tokenizer of 450 ids\n"));
}

#[test]
fn text_that_looks_like_the_special_token_stays_text() {
    let outputs = small(&corpus::invented(300), &["a"], json!({ "vocabulary": 400 }));
    let tokenizer = TextTokenizer::open(&outputs["tokenizer"]).unwrap();
    let ids = tokenizer.encode("a <|endoftext|> b<|endoftext|>").unwrap();
    assert!(!ids.contains(&0), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids), "a <|endoftext|> b<|endoftext|>");
    assert_eq!(tokenizer.decode(&[0]), "<|endoftext|>");
}

#[test]
fn the_companions_say_the_same_as_the_tokenizer() {
    let outputs =
        small(&corpus::invented(300), &["a"], json!({ "vocabulary": 300, "special_tokens": ["<|end|>", "<|fim|>"] }));
    let tree = &outputs["tokenizer"];
    let config: Value = serde_json::from_slice(&corpus::read(tree, "tokenizer_config.json")).unwrap();
    assert_eq!(config["eos_token"], "<|end|>");
    assert_eq!(config["additional_special_tokens"], json!(["<|fim|>"]));
    let vocab: BTreeMap<String, u32> = serde_json::from_slice(&corpus::read(tree, "vocab.json")).unwrap();
    assert_eq!(vocab.len(), 300);
    let reference = reference(tree);
    assert!(vocab.iter().all(|(token, id)| reference.token_to_id(token) == Some(*id)));
    let merges = String::from_utf8(corpus::read(tree, "merges.txt")).unwrap();
    assert_eq!(merges.lines().count(), 1 + 300 - 258);
    assert_eq!(TextTokenizer::open(tree).unwrap().end_of_text(), 0);
}

#[test]
fn wrong_settings_are_problems_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &corpus::table(&folder.path().join("table"), &corpus::invented(10), &["a"]));
    for (settings, place) in [
        (json!({ "vocabulary": 257, "special_tokens": ["<|a|>", "<|b|>"] }), "vocabulary: must be at least 258"),
        (json!({ "special_tokens": ["EOT"] }), "special_tokens[0]: text could spell"),
    ] {
        let error = train(&mut harness, settings.clone()).unwrap_err().to_string();
        assert!(error.starts_with(place), "{settings}: {error}");
    }
}

#[test]
fn a_table_without_documents_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &corpus::table(&folder.path().join("table"), &[], &["a"]));
    let error = train(&mut harness, json!({})).unwrap_err().to_string();
    assert_eq!(error, "there are no documents to learn a tokenizer from");
}

#[test]
fn too_little_text_for_the_vocabulary_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &corpus::table(&folder.path().join("table"), &["ab ab".to_owned()], &["a"]));
    let outputs = train(&mut harness, json!({})).unwrap();
    assert_eq!(report(&outputs)["vocabulary"], 257 + 2);
    let warned = |note: &contract::Note| matches!(note, contract::Note::Warning { text } if text.contains("259 ids"));
    assert!(harness.progress.drain().iter().any(warned));
}

#[test]
fn the_warning_of_too_few_ids_names_the_setting_that_keeps_them_few() {
    for (settings, reason) in [
        (json!({ "word_bytes": 1 }), "word_bytes = 1 keeps "),
        (json!({ "min_frequency": 1_000_000 }), "no remaining pair occurs min_frequency = 1000000 times"),
        (json!({ "vocabulary": 30_000, "max_token_length": 4 }), "longer than max_token_length = 4 bytes"),
        (json!({ "vocabulary": 30_000 }), "no pairs remain to merge"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(folder.path());
        harness.connect("documents", &corpus::table(&folder.path().join("table"), &corpus::invented(50), &["a"]));
        train(&mut harness, settings).unwrap();
        let notes = harness.progress.drain();
        let told = |note: &contract::Note| matches!(note, contract::Note::Warning { text } if text.contains(reason));
        assert!(notes.iter().any(told), "{reason}: {notes:?}");
    }
}

/// A word of 64 KiB, and one byte less and more, with a vocabulary larger than the text allows.
#[test]
fn one_long_word_gives_a_tokenizer_that_loads_and_packs() {
    for length in [65_535, 65_536, 65_537] {
        let texts = ["a".repeat(length)];
        let outputs = small(&texts, &["a"], json!({}));
        let training = &report(&outputs)["training"];
        assert_eq!(training["max_token_length"], 256);
        assert_eq!(training["longest_token"], 256);
        assert_eq!(training["met_max_token_length"], true);
        let page = String::from_utf8(corpus::read(&outputs["report"], "report.md")).unwrap();
        assert!(page.contains("| longest token | 256 bytes (at most 256, where longer pairs were left) |"), "{page}");
        let ids = TextTokenizer::open(&outputs["tokenizer"]).unwrap().encode(&texts[0]).unwrap();
        assert_eq!(ids, reference(&outputs["tokenizer"]).encode_fast(texts[0].as_str(), false).unwrap().get_ids());
    }
}

#[test]
fn a_token_that_the_encoder_cannot_hold_is_named() {
    let outputs = small(&corpus::invented(10), &["a"], json!({ "vocabulary": 258 }));
    let json = corpus::read(&outputs["tokenizer"], "tokenizer.json");
    for (length, loads) in [(65_535, true), (65_536, false)] {
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        json["model"]["vocab"]["a".repeat(length)] = json!(258);
        let error = TextTokenizer::from_json(json, "<|endoftext|>").err().map(|error| error.to_string());
        let expected = "tokenizer.json has a token of 65536 bytes, more than the maximum of 65535";
        assert_eq!(error.as_deref(), (!loads).then_some(expected));
    }
}

#[test]
fn settings_written_at_their_defaults_are_not_in_the_key() {
    let settings = json!({ "vocabulary": 32_768, "documents": 200_000, "special_tokens": ["<|endoftext|>"] });
    let stage = contract::Kind::of::<Tokenizer>().parse(settings.as_object().unwrap()).unwrap();
    assert!(stage.spec().is_empty(), "{:?}", stage.spec());
}

/// Bump `REVISION` when this fails by intent.
#[test]
fn equal_documents_give_the_bytes_of_this_revision() {
    let outputs = small(&corpus::invented(200), &["a", "b"], json!({ "vocabulary": 350 }));
    assert_eq!(<Tokenizer as contract::Stage>::REVISION, 2);
    assert_eq!(
        outputs["tokenizer"].digest.to_string(),
        "6a225b746afc7395ba8639b1d3ea09de8ad4a735cc6ae9c650c1160c5bdd5a4a"
    );
}

#[test]
fn a_cancelled_stage_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &corpus::table(&folder.path().join("table"), &corpus::invented(10), &["a"]));
    harness.cancel.set();
    assert!(matches!(train(&mut harness, json!({})), Err(contract::StageError::Interrupted)));
}

#[test]
fn real_files_get_the_ids_of_the_reference_and_decode_to_themselves() {
    let Some(texts) = corpus::texts(1000) else { return };
    let outputs = small(&texts, &["a", "b"], json!({ "vocabulary": 12_500 }));
    let tokenizer = TextTokenizer::open(&outputs["tokenizer"]).unwrap();
    let reference = reference(&outputs["tokenizer"]);
    for text in &texts {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, reference.encode_fast(text.as_str(), false).unwrap().get_ids());
        assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
    }
}

#[test]
fn any_text_gets_the_ids_of_the_reference_and_decodes_to_itself() {
    let outputs = small(&corpus::invented(400), &["a"], json!({ "vocabulary": 700 }));
    let tokenizer = TextTokenizer::open(&outputs["tokenizer"]).unwrap();
    let reference = reference(&outputs["tokenizer"]);
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "'", "'s", "'ll", " ", "   ", "\n    ", "\t", "\r\n", "\u{a0}", "def ", "self.", "value_1", "<|endoftext|>", "return",
        ]).prop_map(str::to_owned),
        2 => "[ -~]{0,6}",
        2 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,4}",
    ];
    let text = prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
    let config = ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(text in text)| {
        let ids = tokenizer.encode(&text).unwrap();
        let expected = reference.encode_fast(text.as_str(), false).unwrap();
        prop_assert_eq!(&ids, expected.get_ids());
        prop_assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
    });
}
