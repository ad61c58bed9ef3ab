//! The stage kind `train`, run through the harness.

mod event_file;
mod fine_tuning;
mod golden;
mod interruption;
mod learning;
mod non_finite;
mod refusal;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use contract::context::{InputFile, InputTree};
use contract::harness::Harness;
use contract::{Digest, Tree, TreeEntry};
use model::train::Train;
use serde_json::{Map, Value, json};
use tokens::alphabet;
use tokens::packed::{Header, PackedWriter};

const VOCABULARY: u32 = 61;

const LENGTH: usize = 16;

/// Sequences that count upwards modulo the vocabulary from a start of their own: easy to learn.
fn tokens(folder: &Path, name: &str, vocabulary: u32, sequences: usize) -> InputTree {
    short_tokens(folder, name, vocabulary, sequences, LENGTH)
}

/// The same of sequences of `length` tokens.
fn short_tokens(folder: &Path, name: &str, vocabulary: u32, sequences: usize, length: usize) -> InputTree {
    let header = Header {
        vocabulary,
        end_of_text: 0,
        sequence_length: length as u64,
        sequences: sequences as u64,
        documents: 1,
        text_bytes: 1,
    };
    let mut writer = PackedWriter::new(Vec::new(), header).unwrap();
    for sequence in 0..sequences {
        let ids: Vec<_> = (0..length).map(|at| ((sequence * 7 + at * 3) % vocabulary as usize) as u32).collect();
        writer.push(&ids).unwrap();
    }
    tree(folder, name, &[("tokens.bin", &writer.finish().unwrap())])
}

/// The ids of [`tokenizer`].
const BYTES: u32 = 257;

/// A tokenizer of the 256 bytes, whose first id is the end of a text; its own settings name a longest sequence of 1024.
fn tokenizer(folder: &Path) -> InputTree {
    tokenizer_of(folder, "tokenizer", alphabet::bytes(), &[])
}

/// The same with the bytes in another order, and further tokens after them.
fn tokenizer_of(folder: &Path, name: &str, bytes: &[u8; 256], more: &[&str]) -> InputTree {
    let letter = |(id, byte): (u32, &u8)| (alphabet::encode(&[*byte]), json!(id));
    let mut letters: Map<String, Value> = (1..BYTES).zip(bytes).map(letter).collect();
    letters.insert("<|endoftext|>".to_owned(), json!(0));
    let added = more.iter().zip(BYTES..).map(|(content, id)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": false
        })
    });
    let end = json!({
        "id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true
    });
    let added: Vec<_> = [end].into_iter().chain(added).collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": letters, "merges": []
        }
    });
    let settings = json!({ "eos_token": "<|endoftext|>", "model_max_length": 1024, "padding_side": "left" });
    let files = [("report.json", json!({})), ("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)];
    let texts = files.map(|(path, value)| (path, value.to_string()));
    tree(folder, name, &texts.each_ref().map(|(path, text)| (*path, text.as_bytes())))
}

fn tree(folder: &Path, name: &str, files: &[(&str, &[u8])]) -> InputTree {
    let file = |(path, content): &(&str, &[u8])| {
        let location = folder.join(format!("{name}-{path}"));
        fs::write(&location, content).unwrap();
        InputFile { path: path.parse().unwrap(), location, digest: Digest::of(content), size: content.len() as u64 }
    };
    let files: Vec<_> = files.iter().map(file).collect();
    let entry = |file: &InputFile| TreeEntry { path: file.path.clone(), digest: file.digest, size: file.size };
    let digest = Tree::new(files.iter().map(entry).collect()).unwrap().digest();
    InputTree { digest, files }
}

fn settings() -> Value {
    json!({
        "layers": 2, "width": 32, "heads": 4, "batch": 6, "micro_batch": 3, "steps": 12, "warmup": 2,
        "learning_rate": 0.01, "validate_every": 5, "validate_sequences": 7, "checkpoint_every": 3, "log_every": 4
    })
}

fn with(more: Value) -> Value {
    let mut settings = settings();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn harness(folder: &Path) -> Harness {
    let mut harness = Harness::new(folder);
    harness.connect("train", &tokens(folder, "train", VOCABULARY, 40));
    harness.connect("valid", &tokens(folder, "valid", VOCABULARY, 9));
    harness
}

type Outputs = BTreeMap<String, InputTree>;

fn digests(outputs: &Outputs) -> Vec<(String, Digest)> {
    outputs.iter().map(|(port, tree)| (port.clone(), tree.digest)).collect()
}

fn read(outputs: &Outputs, port: &str, path: &str) -> Vec<u8> {
    fs::read(&outputs[port].required(path).unwrap().location).unwrap()
}

fn lines(outputs: &Outputs) -> Vec<Value> {
    let text = String::from_utf8(read(outputs, "metrics", "metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The digests of a run that nothing interrupts.
fn uninterrupted() -> Vec<(String, Digest)> {
    let folder = tempfile::tempdir().unwrap();
    digests(&harness(folder.path()).run::<Train>(settings()).unwrap())
}
