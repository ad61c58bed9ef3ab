//! What `eval-loss` writes for a fixed model and fixed tokens, against `golden_outputs.txt`; and what `sample-code` writes, against
//! `golden_samples.txt`.
//!
//! A line that differs means that equal inputs and settings no longer give an equal report: bump `REVISION`, so that losses
//! are measured anew, and write the new lines down.
//!
//! Bytes are not compared: sums of `f32` are taken in another order where the processor has other vector instructions,
//! and the last bits of a loss differ with it. Names, keys and whole numbers must be the same; a measure may differ by
//! one in its third decimal. Of the report for people its words are compared, with `#` for each number. Samples are texts, which are compared as
//! they are: the last bits of a logit change a token very rarely.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use contract::harness::Harness;
use contract::{InputTree, Stage};
use evaluate::{EvalLoss, SampleCode};
use serde_json::{Value, json};
use support::{
    END, SIZES, TestDocument, documents_tree, indexed_tokens_tree, model_tree, random_gpt2, rows_tree, tokenizer_tree,
    tree,
};

fn described(tree: &InputTree) -> String {
    let read = |path: &str| std::fs::read(&tree.required(path).unwrap().location).unwrap();
    let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
    let mut text = format!("report: {}\n", paths.join(" "));
    let report: BTreeMap<String, Value> = serde_json::from_slice(&read("report.json")).unwrap();
    report.iter().for_each(|(name, value)| text += &lines(name, value));
    let mut in_number = false;
    for character in String::from_utf8(read("report.md")).unwrap().chars() {
        let is_digit = character.is_ascii_digit() || (in_number && character == '.');
        match (is_digit, in_number) {
            (true, false) => text.push('#'),
            (true, true) => {}
            (false, _) => text.push(character),
        }
        in_number = is_digit;
    }
    text
}

/// A value as lines of whole numbers, texts and measures, each with the path to it.
fn lines(path: &str, value: &Value) -> String {
    match value {
        Value::Array(items) => {
            (0..).zip(items).map(|(at, item): (usize, _)| lines(&format!("{path}.{at}"), item)).collect()
        }
        Value::Object(fields) => fields.iter().map(|(name, field)| lines(&format!("{path}.{name}"), field)).collect(),
        value => match value.as_f64().filter(|_| value.is_f64()) {
            Some(fraction) => format!("{path} {fraction:.3}\n"),
            None => format!("{path} {value}\n"),
        },
    }
}

/// Whether two lines say the same, but for the third decimal of a measure, or as much of a larger one.
fn agree(one: &str, other: &str) -> bool {
    let is_measure = |text: &str| text.split_once('.').is_some_and(|(_, decimals)| decimals.len() == 3);
    let close = |(one, other): (&str, &str)| match (one.parse::<f64>(), other.parse::<f64>()) {
        (Ok(x), Ok(y)) if is_measure(one) && is_measure(other) => (x - y).abs() < 0.0015 * x.abs().max(1.0),
        _ => one == other,
    };
    one.split(' ').count() == other.split(' ').count() && one.split(' ').zip(other.split(' ')).all(close)
}

#[test]
fn outputs_are_those_of_their_revision() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let id = |at: usize| if at % 11 == 7 { END } else { (at * at + 3 * at) as u32 % 256 };
    let sequences: Vec<Vec<u32>> = (0..7).map(|row| (0..12).map(|at| id(row * 12 + at)).collect()).collect();
    let document = |repository: &str, license: Option<&str>, length: usize| TestDocument {
        repository: repository.to_owned(),
        path: format!("{length}.py"),
        license: license.map(str::to_owned),
        text: "x".repeat(length),
    };
    let documents = [
        (document("a", Some("mit"), 10), 30),
        (document("b", None, 300), 1),
        (document("b", Some("isc"), 0), 40),
        (document("c", Some("mit"), 2), 20),
    ];
    let table: Vec<_> = documents.iter().map(|(document, _)| document.clone()).collect();
    let trees = Harness::new(folder.path())
        .connect("model", &model_tree(&place("model"), &SIZES, &random_gpt2(1)))
        .connect("tokens", &indexed_tokens_tree(&place("tokens"), 257, &sequences, &documents))
        .connect("tokenizer", &tokenizer_tree(&place("tokenizer"), 0))
        .connect("documents", &documents_tree(&place("documents"), &table, &["a"]))
        .connect("contaminated", &rows_tree(&place("contaminated"), "id", &[table[2].id()]))
        .run::<EvalLoss>(json!({ "batch": 2, "sequences": 5 }))
        .unwrap();
    assert_eq!(trees.keys().collect::<Vec<_>>(), ["report"]);
    let found = described(&trees["report"]);
    let golden = include_str!("golden_outputs.txt");
    let differs = found.lines().zip(golden.lines()).find(|(found, golden)| !agree(found, golden));
    assert!(
        differs.is_none() && found.lines().count() == golden.lines().count(),
        "bump the REVISION of {}, then write this to golden_outputs.txt (first difference: {differs:?}):\n{found}",
        EvalLoss::KIND
    );
}

#[test]
fn samples_are_those_of_their_revision() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let problem = |number: usize| json!({"task_id": format!("t/{number}"), "prompt": format!("\ndef f{number}(x):\n"), "canonical_solution": "", "test": "", "entry_point": "f"});
    let lines: String = (0..2).map(|number| format!("{}\n", problem(number))).collect();
    let file = tree(&place("file"), |output| output.write("file.jsonl", lines.as_bytes()).map(drop).unwrap());
    let problems = Harness::new(&place("problems")).connect("file", &file).run::<score::Problems>(json!({})).unwrap();
    let mut harness = Harness::new(folder.path());
    harness
        .connect("model", &model_tree(&place("model"), &SIZES, &random_gpt2(1)))
        .connect("tokenizer", &tokenizer_tree(&place("tokenizer"), 0))
        .connect("problems", &problems["problems"]);
    let mut found = String::new();
    for settings in [
        json!({"samples": 2, "temperatures": [0, 1.0], "max_tokens": 10}),
        json!({"max_tokens": 10, "temperatures": [1.0], "strip": "both", "prefix": "<|endoftext|>#", "truncation": "none", "top_k": 5}),
    ] {
        let samples = harness.run::<SampleCode>(settings).unwrap()["samples"].clone();
        let text = std::fs::read_to_string(&samples.required("samples.jsonl").unwrap().location).unwrap();
        for line in text.lines() {
            let digest = &contract::Digest::of(line.as_bytes()).to_string()[..16];
            let line: Value = serde_json::from_str(line).unwrap();
            found +=
                &format!("{} {} {} {} {digest}\n", line["task_id"], line["temperature"], line["index"], line["stop"]);
        }
    }
    let golden = include_str!("golden_samples.txt");
    assert!(
        found == golden,
        "bump the REVISION of {}, then write this to golden_samples.txt:\n{found}",
        SampleCode::KIND
    );
}
