//! Tokens that are easy to learn, small settings, and what a run wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use contract::context::{InputFile, InputTree};
use contract::harness::Harness;
use contract::{Digest, Tree, TreeEntry};
use model::train::Train;
use serde_json::{Value, json};
use tokens::packed::{Header, PackedWriter};

pub const VOCABULARY: u32 = 61;

pub const LENGTH: usize = 16;

/// Sequences that count upwards modulo the vocabulary from a start of their own: easy to learn.
pub fn tokens(folder: &Path, name: &str, vocabulary: u32, sequences: usize) -> InputTree {
    let header = Header {
        vocabulary,
        end_of_text: 0,
        sequence_length: LENGTH as u64,
        sequences: sequences as u64,
        documents: 1,
        text_bytes: 1,
    };
    let mut writer = PackedWriter::new(Vec::new(), header).unwrap();
    for sequence in 0..sequences {
        let ids: Vec<_> = (0..LENGTH).map(|at| ((sequence * 7 + at * 3) % vocabulary as usize) as u32).collect();
        writer.push(&ids).unwrap();
    }
    tree(folder, name, &[("tokens.bin", &writer.finish().unwrap())])
}

pub fn tree(folder: &Path, name: &str, files: &[(&str, &[u8])]) -> InputTree {
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

pub fn settings() -> Value {
    json!({
        "layers": 2, "width": 32, "heads": 4, "batch": 3, "accumulation": 2, "steps": 12, "warmup": 2,
        "learning_rate": 0.01, "validate_every": 5, "validate_sequences": 7, "checkpoint_every": 3, "log_every": 4
    })
}

pub fn with(more: Value) -> Value {
    let mut settings = settings();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

pub fn harness(folder: &Path) -> Harness {
    let mut harness = Harness::new(folder);
    harness.connect("train", &tokens(folder, "train", VOCABULARY, 40));
    harness.connect("valid", &tokens(folder, "valid", VOCABULARY, 9));
    harness
}

pub type Outputs = BTreeMap<String, InputTree>;

pub fn digests(outputs: &Outputs) -> Vec<(String, Digest)> {
    outputs.iter().map(|(port, tree)| (port.clone(), tree.digest)).collect()
}

pub fn read(outputs: &Outputs, port: &str, path: &str) -> Vec<u8> {
    fs::read(&outputs[port].required(path).unwrap().location).unwrap()
}

pub fn lines(outputs: &Outputs) -> Vec<Value> {
    let text = String::from_utf8(read(outputs, "metrics", "metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The digests of a run that nothing interrupts.
pub fn uninterrupted() -> Vec<(String, Digest)> {
    let folder = tempfile::tempdir().unwrap();
    digests(&harness(folder.path()).run::<Train>(settings()).unwrap())
}
