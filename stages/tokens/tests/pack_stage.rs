//! The stage kind `pack` on tables of documents.

mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use contract::harness::Harness;
use contract::{InputTree, Outputs};
use datafusion::arrow::array::{RecordBatch, new_null_array};
use datafusion::arrow::datatypes::Schema;
use serde_json::{Value, json};
use tables::{CONTENT, ID, RowsFile, Table};
use tokens::index::DocumentIndex;
use tokens::packed::PackedTokens;
use tokens::text::TextTokenizer;
use tokens::{Pack, Tokenizer};

/// A harness with a tokenizer learned from `texts` and these as `train`.
fn harness(folder: &Path, texts: &[String], shards: &[&str]) -> Harness {
    let mut harness = Harness::new(folder);
    let table = corpus::table(&folder.join("table"), texts, shards);
    harness.connect("documents", &table);
    let tokenizer = harness.run::<Tokenizer>(json!({ "vocabulary": 450 })).unwrap().remove("tokenizer").unwrap();
    harness.inputs.clear();
    harness.connect("train", &table).connect("tokenizer", &tokenizer);
    harness
}

fn report(outputs: &BTreeMap<String, InputTree>) -> Value {
    serde_json::from_slice(&corpus::read(&outputs["report"], "report.json")).unwrap()
}

/// All ids in the order of the stream of documents.
fn stream(tree: &InputTree) -> Vec<u32> {
    let (packed, index) = (PackedTokens::open(tree).unwrap(), DocumentIndex::open(tree).unwrap());
    let mut sequences: Vec<_> = (0..packed.sequences())
        .map(|sequence| {
            let mut ids = Vec::new();
            packed.read(sequence, &mut ids).unwrap();
            (index.stream_sequence(sequence as u64), ids)
        })
        .collect();
    sequences.sort();
    assert!(sequences.iter().map(|(place, _)| *place).eq(0..packed.sequences() as u64));
    sequences.into_iter().flat_map(|(_, ids)| ids).collect()
}

/// The documents that lie whole in the sequences, as text by id.
fn documents(tree: &InputTree, tokenizer: &TextTokenizer) -> BTreeMap<String, Vec<u8>> {
    let (index, stream) = (DocumentIndex::open(tree).unwrap(), stream(tree));
    let entries = (0..index.documents()).map(|document| index.get(document).unwrap());
    let whole = entries.filter(|entry| entry.start + entry.tokens <= stream.len() as u64);
    whole
        .map(|entry| {
            let ids = &stream[entry.start as usize..(entry.start + entry.tokens) as usize];
            let (end, text) = ids.split_last().unwrap();
            assert_eq!(*end, tokenizer.end_of_text());
            assert!(!text.contains(end));
            (entry.id.to_string(), tokenizer.decode_bytes(text))
        })
        .collect()
}

/// One word, of letters that follow each other without a period.
fn word(length: usize) -> String {
    let mut state = 1u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    (0..length).map(|_| letter()).collect()
}

/// Documents of one word each, around the lengths at which words are counted in pieces and at which the reference no longer
/// encodes them too.
#[test]
fn documents_of_one_long_word_are_packed_whole() {
    let folder = tempfile::tempdir().unwrap();
    let lengths = [(64 << 10) - 1, 64 << 10, (64 << 10) + 1, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 1 << 20];
    let texts: Vec<_> = lengths.iter().map(|length| word(*length)).collect();
    let mut harness = harness(folder.path(), &texts, &["a"]);
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 2, "shuffle": "none" })).unwrap();
    let ledger = &report(&outputs)["splits"]["train"];
    assert_eq!(ledger["bytes"], lengths.iter().sum::<usize>());
    // The first of a part is.
    assert_eq!(ledger["checked"], 1);
    let tokenizer = TextTokenizer::open(&harness.inputs["tokenizer"]).unwrap();
    let packed = documents(&outputs["train"], &tokenizer);
    for (n, text) in texts.iter().enumerate().take(lengths.len() - 1) {
        assert!(packed[&corpus::id(n, text).to_string()] == text.as_bytes(), "{} letters", text.len());
    }
}

#[test]
fn packed_tokens_decode_to_the_documents_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let texts = corpus::invented(300);
    let mut harness = harness(folder.path(), &texts, &["a", "b"]);
    let tokenizer = TextTokenizer::open(&harness.inputs["tokenizer"]).unwrap();
    let expected: BTreeMap<_, _> =
        texts.iter().enumerate().map(|(n, text)| (corpus::id(n, text).to_string(), text)).collect();
    for shuffle in ["documents", "sequences", "none"] {
        let outputs = harness.run::<Pack>(json!({ "sequence_length": 64, "shuffle": shuffle })).unwrap();
        let found = documents(&outputs["train"], &tokenizer);
        // All but those that the dropped tail of less than a sequence cuts.
        let ledger = &report(&outputs)["splits"]["train"];
        assert!(found.len() as u64 >= 300 - ledger["dropped"].as_u64().unwrap().max(1), "{shuffle}");
        for (id, text) in &found {
            assert_eq!(text, expected[id].as_bytes(), "{shuffle}");
        }
    }
}

#[test]
fn without_a_shuffle_documents_keep_the_order_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let texts = corpus::invented(50);
    let mut harness = harness(folder.path(), &texts, &["a"]);
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 2, "shuffle": "none" })).unwrap();
    let index = DocumentIndex::open(&outputs["train"]).unwrap();
    let ids: Vec<_> = (0..50).map(|n| index.get(n).unwrap().id).collect();
    assert_eq!(ids, texts.iter().enumerate().map(|(n, text)| corpus::id(n, text)).collect::<Vec<_>>());
    let shuffled = harness.run::<Pack>(json!({ "sequence_length": 2 })).unwrap();
    let index = DocumentIndex::open(&shuffled["train"]).unwrap();
    let other: Vec<_> = (0..50).map(|n| index.get(n).unwrap().id).collect();
    assert_ne!(ids, other);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>(), other.iter().collect());
}

#[test]
fn the_bytes_do_not_depend_on_threads_memory_or_shards() {
    let texts = corpus::invented(400);
    let digests = |shards: &[&str], threads, memory| {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = harness(folder.path(), &texts, shards);
        (harness.resources.threads, harness.resources.memory) = (threads, memory);
        ["documents", "sequences"].map(|shuffle| {
            harness.run::<Pack>(json!({ "sequence_length": 32, "shuffle": shuffle })).unwrap()["train"].digest
        })
    };
    let one = digests(&["a"], 1, 1 << 30);
    assert_ne!(one[0], one[1]);
    for other in [digests(&["a"], 3, 1 << 30), digests(&["x", "y", "z"], 2, 1 << 30), digests(&["p", "q"], 2, 4096)] {
        assert_eq!(one, other);
    }
}

#[test]
fn another_seed_is_another_order_of_the_same_documents() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(100), &["a"]);
    let one = harness.run::<Pack>(json!({ "sequence_length": 16 })).unwrap();
    let again = harness.run::<Pack>(json!({ "sequence_length": 16 })).unwrap();
    assert_eq!(one["train"].digest, again["train"].digest);
    harness.seed = 2;
    let other = harness.run::<Pack>(json!({ "sequence_length": 16 })).unwrap();
    assert_ne!(one["train"].digest, other["train"].digest);
    assert_eq!(report(&one)["splits"]["train"]["tokens"], report(&other)["splits"]["train"]["tokens"]);
}

#[test]
fn the_ledger_accounts_for_every_token_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let texts = corpus::invented(200);
    let mut harness = harness(folder.path(), &texts, &["a", "b"]);
    let valid = corpus::table(&folder.path().join("valid"), &texts[..40], &["v"]);
    harness.connect("valid", &valid);
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 100 })).unwrap();
    let tokenizer = TextTokenizer::open(&harness.inputs["tokenizer"]).unwrap();
    for (split, texts) in [("train", &texts[..]), ("valid", &texts[..40])] {
        let ledger = &report(&outputs)["splits"][split];
        let number = |name: &str| ledger[name].as_u64().unwrap();
        let tokens: usize = texts.iter().map(|text| tokenizer.encode(text).unwrap().len()).sum();
        assert_eq!(number("documents"), texts.len() as u64);
        assert_eq!(number("bytes"), texts.iter().map(|text| text.len() as u64).sum::<u64>());
        assert_eq!(number("characters"), texts.iter().map(|text| text.chars().count() as u64).sum::<u64>());
        assert_eq!((number("text_tokens"), number("end_of_text_tokens")), (tokens as u64, texts.len() as u64));
        assert_eq!(number("tokens"), number("emitted") + number("dropped"));
        assert_eq!((number("emitted"), number("sequences")), (number("tokens") / 100 * 100, number("tokens") / 100));
        assert!(number("checked") > 0);
        let packed = PackedTokens::open(&outputs[split]).unwrap();
        assert_eq!(packed.sequences() as u64, number("sequences"));
        assert_eq!(packed.text_bytes(), number("emitted_bytes"));
        let ids = stream(&outputs[split]);
        let text: Vec<u32> = ids.into_iter().filter(|id| *id != packed.end_of_text()).collect();
        assert_eq!(packed.text_bytes(), tokenizer.decode_bytes(&text).len() as u64);
    }
}

#[test]
fn without_a_validation_split_its_output_has_no_sequences() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(20), &["a"]);
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 16 })).unwrap();
    assert_eq!(PackedTokens::open(&outputs["valid"]).unwrap().sequences(), 0);
    assert_eq!(report(&outputs)["splits"].as_object().unwrap().len(), 1);
}

#[test]
fn documents_that_fill_no_sequence_are_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(3), &["a"]);
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 100_000 })).unwrap();
    assert_eq!(PackedTokens::open(&outputs["train"]).unwrap().sequences(), 0);
    assert_eq!(report(&outputs)["splits"]["train"]["emitted_bytes"], 0);
    let warned = |note: &contract::Note| matches!(note, contract::Note::Warning { text } if text.contains("'train'"));
    assert!(harness.progress.drain().iter().any(warned));
}

#[test]
fn an_empty_table_packs_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(20), &["a"]);
    harness.connect("train", &corpus::table(&folder.path().join("none"), &[], &["a"]));
    let outputs = harness.run::<Pack>(json!({})).unwrap();
    assert_eq!(PackedTokens::open(&outputs["train"]).unwrap().sequences(), 0);
    assert_eq!(DocumentIndex::open(&outputs["train"]).unwrap().documents(), 0);
}

/// A table of one document whose `column` is null in the file.
fn table_without(folder: &Path, column: &str) -> InputTree {
    let mut tree = corpus::table(&folder.join("whole"), &["x = 1\n".to_owned()], &["a"]);
    let part = Table::open(&tree).unwrap().parts()[0].clone();
    let batch = part.documents().unwrap().next().unwrap().unwrap();
    let of_text = column == CONTENT;
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for field in batch.schema().fields().iter().filter(|field| (field.name() == CONTENT) == of_text) {
        fields.push(field.as_ref().clone().with_nullable(true));
        let values = batch.column_by_name(field.name()).unwrap().clone();
        columns.push(if field.name() == column { new_null_array(field.data_type(), 1) } else { values });
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let outputs = Outputs::stage(&folder.join("holed"), ["rows".to_owned()]).unwrap();
    let mut file = RowsFile::new(outputs.tree("rows").unwrap(), "part", batch.schema());
    file.write(&batch).unwrap();
    file.finish().unwrap();
    let (_, files) = outputs.finish().unwrap().remove("rows").unwrap();
    let replaced = if of_text { &part.text } else { &part.rows };
    tree.files.iter_mut().find(|file| file.path == replaced.path).unwrap().location = files[0].1.clone();
    tree
}

#[test]
fn a_row_without_id_or_text_is_an_error_that_names_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(20), &["a"]);
    for (column, expected) in [(ID, "' has 1 row without 'id'"), (CONTENT, "' does not match its text file: ")] {
        let table = table_without(&folder.path().join(column), column);
        let part = format!("the table's part '{}{expected}", Table::open(&table).unwrap().parts()[0].name);
        harness.connect("train", &table).connect("documents", &table);
        for error in [
            harness.run::<Pack>(json!({})).unwrap_err().to_string(),
            harness.run::<Tokenizer>(json!({})).unwrap_err().to_string(),
        ] {
            assert!(error.starts_with(&part), "{column}: {error}");
        }
    }
}

#[test]
fn a_long_line_is_packed_in_pieces_to_the_same_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut texts = corpus::invented(100);
    texts.push(format!("x = [{}]\n", "'it''s', 12,  ".repeat(650_000)));
    let mut harness = harness(folder.path(), &texts[..100], &["a"]);
    harness.connect("train", &corpus::table(&folder.path().join("long"), &texts[100..], &["a"]));
    let tokenizer = TextTokenizer::open(&harness.inputs["tokenizer"]).unwrap();
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 2 })).unwrap();
    let ids = tokenizer.encode(&texts[100]).unwrap();
    assert_eq!(stream(&outputs["train"])[..ids.len() - 1], ids[..ids.len() - 1]);
}

#[test]
fn settings_written_at_their_defaults_are_not_in_the_key() {
    let settings = json!({ "sequence_length": 1024, "shuffle": "documents" });
    let stage = contract::Kind::of::<Pack>().parse(settings.as_object().unwrap()).unwrap();
    assert!(stage.spec().is_empty(), "{:?}", stage.spec());
}

/// Bump `REVISION` when this fails by intent.
#[test]
fn equal_documents_give_the_bytes_of_this_revision() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(200), &["a", "b"]);
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 32 })).unwrap();
    assert_eq!(<Pack as contract::Stage>::REVISION, 1);
    assert_eq!(outputs["train"].digest.to_string(), "c287624a3d3a34c1a8a34aba7ee6493b79f763c902c52b6e1a4bf0e16662baf4");
}

#[test]
fn another_tokenizer_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &corpus::invented(20), &["a"]);
    let good: Value = serde_json::from_slice(&corpus::read(&harness.inputs["tokenizer"], "tokenizer.json")).unwrap();
    for (pointer, value, reason) in [
        ("/normalizer", json!({ "type": "NFC" }), "without a normalizer"),
        ("/pre_tokenizer/add_prefix_space", json!(true), "adds a space"),
        ("/added_tokens", json!([]), "no special token '<|endoftext|>'"),
        ("/model/vocab/!", json!(5000), "whose ids are not 0, 1, 2"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        harness.connect("tokenizer", &corpus::tree_of(folder.path(), "tokenizer.json", bad.to_string().as_bytes()));
        let error = harness.run::<Pack>(json!({})).unwrap_err().to_string();
        assert!(error.contains(reason), "{pointer}: {error}");
    }
}

#[test]
fn real_files_come_back_from_the_packed_tokens() {
    let Some(texts) = corpus::texts(1000) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path(), &texts, &["a", "b"]);
    let tokenizer = TextTokenizer::open(&harness.inputs["tokenizer"]).unwrap();
    let outputs = harness.run::<Pack>(json!({ "shuffle": "sequences" })).unwrap();
    let found = documents(&outputs["train"], &tokenizer);
    assert!(found.len() >= 990);
    for (n, text) in texts.iter().enumerate() {
        if let Some(found) = found.get(&corpus::id(n, text).to_string()) {
            assert!(found == text.as_bytes());
        }
    }
}
