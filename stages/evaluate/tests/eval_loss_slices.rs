//! The slices of `eval-loss`, over tokens that the stage `pack` wrote.
//!
//! Each document is one letter, repeated, and has the letter to itself or shares it with documents of the same slices: so a token's document
//! is known from the token alone, however the sequences were shuffled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use contract::error::Failure;
use contract::harness::Harness;
use contract::{InputTree, StageError};
use evaluate::EvalLoss;
use evaluate::losses::token_losses;
use evaluate::sums::{Nats, Prediction, Sums};
use model::Gpt2;
use serde_json::{Value, json};
use support::{
    END, SIZES, TestDocument, documents_tree, model_tree, random_gpt2, rows_tree, tokenizer_tree, tokens_tree,
};
use tempfile::TempDir;
use tokens::Pack;
use tokens::packed::PackedTokens;

/// Tokens of a sequence.
const LENGTH: usize = 16;

struct Fixture {
    harness: Harness,
    folder: TempDir,
    model: Gpt2,
    tokens: InputTree,
}

impl Fixture {
    /// Packs these documents; `documents` and `contaminated` are not connected.
    fn new(documents: &[TestDocument], shuffle: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(folder.path());
        let table = documents_tree(&folder.path().join("table"), documents, &["a", "b"]);
        let tokenizer = tokenizer_tree(&folder.path().join("tokenizer"), 0);
        harness.connect("train", &table).connect("tokenizer", &tokenizer);
        let packed = harness.run::<Pack>(json!({ "sequence_length": LENGTH, "shuffle": shuffle })).unwrap();
        let tokens = packed["train"].clone();
        let model = random_gpt2(1);
        harness.inputs.clear();
        harness
            .connect("model", &model_tree(&folder.path().join("model"), &SIZES, &model))
            .connect("tokens", &tokens)
            .connect("tokenizer", &tokenizer);
        let mut fixture = Self { harness, folder, model, tokens };
        fixture.harness.connect("documents", &table);
        fixture
    }

    fn contaminate(&mut self, ids: &[String]) {
        let rows = rows_tree(&self.folder.path().join(format!("rows-{}", ids.len())), "id", ids);
        self.harness.connect("contaminated", &rows);
    }

    fn tree(&mut self, settings: Value) -> InputTree {
        self.harness.run::<EvalLoss>(settings).unwrap().remove("report").unwrap()
    }

    fn report(&mut self, settings: Value) -> Value {
        let tree = self.tree(settings);
        serde_json::from_slice(&std::fs::read(&tree.required("report.json").unwrap().location).unwrap()).unwrap()
    }

    fn failure(&mut self) -> Failure {
        match self.harness.run::<EvalLoss>(json!({})) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }

    /// The sums of the predictions of each key of a text token and its position, by losses of the same batches as the stage's.
    fn expected<K: Ord>(&self, batch: usize, key: impl Fn(u8, usize) -> K) -> BTreeMap<K, Sums> {
        let packed = PackedTokens::open(&self.tokens).unwrap();
        let mut sums: BTreeMap<K, Sums> = BTreeMap::new();
        for first in (0..packed.sequences()).step_by(batch) {
            let mut ids = Vec::new();
            (first..packed.sequences().min(first + batch)).for_each(|n| packed.read(n, &mut ids).unwrap());
            let losses = token_losses(&self.model, &ids, LENGTH).unwrap();
            for (ids, losses) in ids.chunks(LENGTH).zip(losses.chunks(LENGTH - 1)) {
                for (position, (id, loss)) in (1..).zip(ids[1..].iter().zip(losses)) {
                    let Ok(letter) = u8::try_from(*id) else { continue };
                    sums.entry(key(letter, position))
                        .or_default()
                        .add(Prediction { loss: Nats::of(*loss).unwrap(), bytes: Some(1) });
                }
            }
        }
        sums
    }
}

/// The bytes of text of a slice, and its bits per byte, of which serde_json does not read the last digit exactly.
type OfText = (u64, Option<String>);

fn of_text(bytes: u64, bits: Option<f64>) -> OfText {
    (bytes, bits.map(|bits| format!("{bits:.11}")))
}

/// The slices of a report by name.
fn slices(report: &Value, by: &str) -> BTreeMap<String, OfText> {
    let tables = report["slices"].as_array().unwrap();
    let Some(table) = tables.iter().find(|table| table["by"] == by) else { return BTreeMap::new() };
    let slice = |slice: &Value| {
        let of_text = of_text(slice["text_bytes"].as_u64().unwrap(), slice["bits_per_byte"].as_f64());
        (slice["name"].as_str().unwrap().to_owned(), of_text)
    };
    table["slices"].as_array().unwrap().iter().map(slice).collect()
}

fn measured(expected: BTreeMap<impl Into<String>, Sums>) -> BTreeMap<String, OfText> {
    let measured = expected.into_iter().map(|(name, sums)| (name.into(), sums.measures()));
    measured.map(|(name, measures)| (name, of_text(measures.text_bytes, measures.bits_per_byte))).collect()
}

/// Documents of a letter, and the slices that they are in: by license, repository size and file length.
struct Letter(char, Documents, [&'static str; 3]);

/// How many documents, their bytes, their repository and its license.
type Documents = (usize, usize, &'static str, Option<&'static str>);

/// Shorter than a sequence and longer than several, empty ones, around a boundary, and repositories of 1, 2 and 40 files.
const LETTERS: [Letter; 6] = [
    Letter('a', (1, 3, "one", Some("mit")), ["mit", "1", "0 to 255"]),
    Letter('b', (1, 255, "two", Some("gpl")), ["gpl", "2 to 7", "0 to 255"]),
    Letter('c', (1, 256, "two", Some("gpl")), ["gpl", "2 to 7", "256 to 1,023"]),
    Letter('d', (1, 5000, "three", None), ["no license", "1", "4,096 to 16,383"]),
    Letter('e', (40, 7, "four", Some("mit")), ["mit", "32 to 127", "0 to 255"]),
    Letter('f', (41, 0, "five", Some("isc")), ["isc", "32 to 127", "0 to 255"]),
];

fn letters() -> Vec<TestDocument> {
    let documents = |Letter(letter, (number, length, repository, license), _): &Letter| {
        let document = |n| TestDocument {
            repository: (*repository).to_owned(),
            path: format!("{letter}{n}.py"),
            license: license.map(str::to_owned),
            text: letter.to_string().repeat(*length),
        };
        (0..*number).map(document).collect::<Vec<_>>()
    };
    LETTERS.iter().flat_map(documents).collect()
}

fn letter_of(found: u8) -> &'static Letter {
    LETTERS.iter().find(|letter| letter.0 == char::from(found)).unwrap()
}

#[test]
fn every_token_is_in_the_slices_of_its_document_however_sequences_are_shuffled() {
    for shuffle in ["none", "documents", "sequences"] {
        let mut fixture = Fixture::new(&letters(), shuffle);
        for batch in [1, 8, 1000] {
            let report = fixture.report(json!({ "batch": batch }));
            for (place, by) in ["license", "repository-files", "file-bytes"].into_iter().enumerate() {
                let mut found = slices(&report, by);
                if by == "license" {
                    assert_eq!(found.remove("isc"), Some((0, None)), "empty documents are end-of-text tokens alone");
                }
                let expected = fixture.expected(batch, |letter, _| letter_of(letter).2[place]);
                assert_eq!(found, measured(expected), "{shuffle} {batch} {by}");
            }
            let expected = fixture.expected(batch, |_, position| match position {
                1 => "1",
                2..4 => "2 to 3",
                4..8 => "4 to 7",
                _ => "8 to 15",
            });
            assert_eq!(slices(&report, "position"), measured(expected), "{shuffle} {batch}");
        }
    }
}

#[test]
fn the_slices_of_each_table_add_up_to_the_whole() {
    let mut fixture = Fixture::new(&letters(), "sequences");
    fixture.contaminate(&[letters()[3].id()]);
    for settings in [json!({}), json!({ "sequences": 7, "batch": 2 })] {
        let report = fixture.report(settings);
        let tables = report["slices"].as_array().unwrap();
        assert_eq!(tables.len(), 5);
        for table in tables {
            let total = |measure: &str| {
                let slices = table["slices"].as_array().unwrap().iter();
                slices.map(|slice| slice[measure].as_u64().unwrap()).sum::<u64>()
            };
            for measure in ["tokens", "text_tokens", "text_bytes"] {
                assert_eq!(total(measure), report[measure].as_u64().unwrap(), "{measure} by {}", table["by"]);
            }
        }
    }
}

#[test]
fn contaminated_documents_are_measured_apart_with_and_without_a_table_of_documents() {
    let mut fixture = Fixture::new(&letters(), "documents");
    let is_contaminated = |letter: char| matches!(letter, 'b' | 'e');
    let named = letters().into_iter().filter(|document| document.text.starts_with(is_contaminated));
    // Some twice, and one that is not among the tokens.
    let ids: Vec<_> = named.map(|document| document.id()).collect();
    fixture.contaminate(&[&ids[..], &ids[..3], &["0".repeat(64)]].concat());
    let expected = fixture.expected(8, |letter, _| match is_contaminated(char::from(letter)) {
        true => "contaminated documents",
        false => "without contaminated documents",
    });
    let expected = measured(expected);
    assert_eq!(slices(&fixture.report(json!({})), "contamination"), expected);
    fixture.harness.inputs.remove("documents");
    let report = fixture.report(json!({}));
    assert_eq!(slices(&report, "contamination"), expected);
    let by: Vec<_> = report["slices"].as_array().unwrap().iter().map(|table| table["by"].clone()).collect();
    assert_eq!(by, ["position", "contamination"]);
}

#[test]
fn without_a_contaminated_document_one_slice_is_the_whole() {
    let mut fixture = Fixture::new(&letters(), "documents");
    fixture.contaminate(&[]);
    let report = fixture.report(json!({}));
    let table = report["slices"].as_array().unwrap().last().unwrap();
    assert_eq!(table["slices"].as_array().unwrap().len(), 1);
    for measure in ["tokens", "loss", "perplexity", "bits_per_byte", "text_tokens", "text_bytes"] {
        assert_eq!(table["slices"][0][measure], report[measure], "{measure}");
    }
}

#[test]
fn licenses_beyond_the_setting_share_a_slice() {
    let mut fixture = Fixture::new(&letters(), "documents");
    let names = |report: &Value| slices(report, "license").into_keys().collect::<Vec<_>>();
    // 41 documents have isc and mit each, the first of which is isc by name; 2 have gpl.
    let report = fixture.report(json!({ "slices": { "licenses": 2 } }));
    assert_eq!(names(&report), ["isc", "mit", "no license", "other licenses"]);
    let report = fixture.report(json!({ "slices": { "licenses": 1 } }));
    assert_eq!(names(&report), ["isc", "no license", "other licenses"]);
}

#[test]
fn of_rows_of_one_document_that_differ_in_their_license_the_last_one_decides() {
    for (license, expected) in [(None, "no license"), (Some("gpl"), "gpl"), (Some("apache"), "apache")] {
        let mut documents = letters();
        // In the part of the fourth document, whose letter is `d`.
        assert_eq!((documents.len() % 2, &documents[3].text[..1]), (1, "d"));
        documents.push(TestDocument { license: license.map(str::to_owned), ..documents[3].clone() });
        let mut fixture = Fixture::new(&documents, "none");
        for threads in [1, 2] {
            fixture.harness.resources.threads = threads;
            let found = slices(&fixture.report(json!({})), "license");
            assert!(found[expected].0 > 9000, "{found:?}");
        }
    }
}

#[test]
fn boundaries_are_settings() {
    let mut fixture = Fixture::new(&letters(), "documents");
    let report =
        fixture.report(json!({ "slices": { "file_bytes": [1, 256], "positions": [], "repository_files": [41] } }));
    let names = |by: &str| slices(&report, by).into_keys().collect::<Vec<_>>();
    assert_eq!(names("file-bytes"), ["0", "1 to 255", "256 or more"]);
    assert_eq!(names("position"), ["1 or more"]);
    assert_eq!(names("repository-files"), ["1 to 40", "41 or more"]);
    let error = fixture.harness.run::<EvalLoss>(json!({ "slices": { "positions": [8, 8] } })).unwrap_err().to_string();
    assert!(error.contains("boundaries must ascend, but 8 follows 8"), "{error}");
}

/// More documents than the ids of one pass, than rows of a row group, and than a part of a table may have; some of them are equal rows.
#[test]
fn slices_of_many_documents_in_little_memory() {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    let document = |n: usize| TestDocument {
        // A repository of the first letters has twice as many files as one of the last.
        repository: format!("{}/{}", letter(n), n / 26 % if n % 26 < 13 { 300 } else { 600 }),
        // Two rows of the first letters are equal.
        path: format!("{}.py", n / 15_600),
        license: Some(letter(n).to_string()),
        text: letter(n).to_string().repeat(n % 2),
    };
    let documents: Vec<_> = (0..270_000).map(document).collect();
    let mut fixture = Fixture::new(&documents, "sequences");
    let is_contaminated = |license: &str| matches!(license, "b" | "x");
    let named = documents.iter().filter(|document| document.license.as_deref().is_some_and(is_contaminated));
    let contaminated: Vec<_> = named.map(TestDocument::id).collect();
    fixture.contaminate(&contaminated);
    // 52,428 ids a pass.
    fixture.harness.resources.memory = 16 << 20;
    let settings = json!({ "sequences": 400, "batch": 100, "slices": { "licenses": 26, "repository_files": [20] } });
    let report = fixture.report(settings);
    let packed = PackedTokens::open(&fixture.tokens).unwrap();
    let mut letters: BTreeMap<String, u64> = BTreeMap::new();
    for sequence in 0..400 {
        let mut ids = Vec::new();
        packed.read(sequence, &mut ids).unwrap();
        for id in ids[1..].iter().filter(|id| **id != END) {
            *letters.entry(char::from(*id as u8).to_string()).or_default() += 1;
        }
    }
    assert_eq!(letters.len(), 13, "documents of the other letters are empty");
    let bytes = |by: &str| {
        let slices = slices(&report, by).into_iter().map(|(name, (bytes, _))| (name, bytes));
        slices.filter(|(_, bytes)| *bytes > 0).collect::<BTreeMap<_, _>>()
    };
    let sums = |name: &dyn Fn(&str) -> &'static str| {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        letters.iter().for_each(|(letter, bytes)| *sums.entry(name(letter).to_owned()).or_default() += bytes);
        sums
    };
    assert_eq!(bytes("license"), letters);
    assert_eq!(bytes("repository-files"), sums(&|letter| if letter < "n" { "20 or more" } else { "1 to 19" }));
    assert_eq!(bytes("file-bytes"), sums(&|_| "0 to 255"));
    let contamination = |letter: &str| match is_contaminated(letter) {
        true => "contaminated documents",
        false => "without contaminated documents",
    };
    assert_eq!(bytes("contamination"), sums(&contamination));
}

#[test]
fn inputs_that_do_not_fit_are_errors_with_a_hint() {
    let mut fixture = Fixture::new(&letters(), "documents");
    let message = |fixture: &mut Fixture| {
        let failure = fixture.failure();
        assert!(failure.hint.is_some(), "{failure}");
        failure.message
    };
    let whole = fixture.harness.inputs["documents"].clone();
    let part = documents_tree(&fixture.folder.path().join("part"), &letters()[2..], &["a"]);
    fixture.harness.connect("documents", &part);
    assert_eq!(message(&mut fixture), "the table 'documents' lacks 2 of the 85 documents of the tokens");
    let empty = documents_tree(&fixture.folder.path().join("empty"), &[], &["a"]);
    fixture.harness.connect("documents", &empty);
    assert_eq!(message(&mut fixture), "the table 'documents' lacks 85 of the 85 documents of the tokens");
    fixture.harness.connect("documents", &whole);
    fixture.contaminate(&["x".to_owned()]);
    assert_eq!(message(&mut fixture), "'x' is not the id of a document");
    let rows = rows_tree(&fixture.folder.path().join("other"), "name", &["x".to_owned()]);
    fixture.harness.connect("contaminated", &rows);
    assert_eq!(message(&mut fixture), "the table has no column 'id' of text");
    fixture.harness.inputs.remove("contaminated");
    // Tokens without an index, and with that of others.
    let tokens = tokens_tree(&fixture.folder.path().join("tokens"), 257, &[vec![1, 2], vec![3, END]]);
    let index = fixture.tokens.file(tokens::index::FILE).unwrap().clone();
    fixture.harness.connect("tokens", &tokens);
    assert!(message(&mut fixture).contains("documents.bin"));
    let tokens = InputTree { files: [vec![index], tokens.files].concat(), ..tokens };
    fixture.harness.connect("tokens", &tokens);
    let expected = "documents.bin does not fit tokens.bin: it is not the index of these tokens";
    assert_eq!(message(&mut fixture), expected);
}

#[test]
fn the_page_has_a_table_for_each_partition() {
    let mut documents = letters();
    documents[0].license = Some("a|b".to_owned());
    let mut fixture = Fixture::new(&documents, "none");
    fixture.contaminate(&[documents[0].id()]);
    let tree = fixture.tree(json!({ "sequences": 2 }));
    let page = std::fs::read_to_string(&tree.required("report.md").unwrap().location).unwrap();
    let headings: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        headings,
        [
            "# Loss",
            "## By license",
            "## By repository size",
            "## By file length",
            "## By position in the sequence",
            "## By contamination"
        ]
    );
    assert!(
        page.contains("\n| license | tokens | loss | perplexity | bits per byte |\n|---|---:|---:|---:|---:|\n"),
        "{page}"
    );
    let names: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
    assert!(names.contains(&"8 to 15") && names.contains(&"without contaminated documents"), "{page}");
}
