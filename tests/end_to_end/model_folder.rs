//! An exported model: what its files say of the same thing is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::bench::Bench;

/// The names of the files that the folder of a trained model holds.
const FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

fn json_of(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap()
}

/// The shape of each tensor, and the types that there are.
fn tensors(folder: &Path) -> (BTreeMap<String, Vec<u64>>, Vec<Value>) {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    let mut types = Vec::new();
    let shapes = tensors.map(|(name, tensor)| {
        types.push(tensor["dtype"].clone());
        (name, tensor["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect())
    });
    let shapes = shapes.collect();
    types.dedup();
    (shapes, types)
}

/// Compares every fact that two or more files of a model's folder state.
fn assert_agrees(folder: &Path, positions: u64, vocabulary: u64) {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, FILES);
    let [config, generation, special, tokenizer, settings, letters] = [
        "config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]
    .map(|name| json_of(folder, name));

    // The longest sequence.
    let (shapes, types) = tensors(folder);
    let width = config["n_embd"].as_u64().unwrap();
    assert_eq!(shapes["transformer.wpe.weight"], [positions, width]);
    assert_eq!(config["n_positions"], positions);
    assert_eq!(settings["model_max_length"], positions);

    // The vocabulary.
    let ids: Map<String, Value> = tokenizer["model"]["vocab"].as_object().unwrap().clone();
    let added = tokenizer["added_tokens"].as_array().unwrap();
    let mut all = ids.clone();
    all.extend(added.iter().map(|token| (token["content"].as_str().unwrap().to_owned(), token["id"].clone())));
    assert_eq!(all.len() as u64, vocabulary);
    assert_eq!(Value::Object(all.clone()), letters);
    assert_eq!(config["vocab_size"], vocabulary);
    assert_eq!(shapes["transformer.wte.weight"], [vocabulary, width]);
    let merges = fs::read_to_string(folder.join("merges.txt")).unwrap();
    let lines: Vec<_> = merges.lines().skip(1).map(|line| json!(line.split(' ').collect::<Vec<_>>())).collect();
    let pair = |merge: &Value| match merge.as_str() {
        Some(text) => json!(text.split(' ').collect::<Vec<_>>()),
        None => merge.clone(),
    };
    let listed: Vec<_> = tokenizer["model"]["merges"].as_array().unwrap().iter().map(pair).collect();
    assert_eq!(listed, lines);

    // The special tokens.
    for (token, id) in [("eos_token", "eos_token_id"), ("bos_token", "bos_token_id")] {
        assert_eq!(special[token], settings[token], "{token}");
        assert_eq!(config[id], generation[id], "{id}");
        assert_eq!(all[settings[token].as_str().unwrap()], config[id], "{token}");
    }
    assert_eq!(special["unk_token"], settings["unk_token"]);

    // The sizes.
    let blocks = shapes.keys().filter(|name| name.ends_with(".attn.c_attn.weight")).count();
    assert_eq!(config["n_layer"], blocks);
    assert_eq!(shapes["transformer.h.0.attn.c_attn.weight"], [width, 3 * width]);
    assert_eq!((&config["dtype"], types), (&json!("float32"), vec![json!("F32")]));
    assert_eq!(config["transformers_version"], generation["transformers_version"]);
}

#[test]
fn all_files_of_an_exported_model_agree() {
    let bench = Bench::small();
    let until = ["run", "run.toml", "--until", "train", "--set", "stages.train.steps=2"];
    assert_eq!(bench.pipeline(&until).code, 0);
    let export = |set: &[&str], to: &str| {
        let ran = bench.pipeline(&[&["export", "run.toml", "train.model", to], set].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        bench.path().join(to)
    };
    let steps = ["--set", "stages.train.steps=2"];
    assert_agrees(&export(&steps, "model"), 64, 400);
    // With other lengths, and further special tokens.
    let other = [
        &steps[..],
        &["--set", "stages.pack.sequence_length=48", "--set", "stages.tokenizer.vocabulary=300"],
        &["--set", "stages.tokenizer.special_tokens=[\"<|endoftext|>\", \"<|fim|>\"]"],
        &["--set", "stages.tokenizer.model_max_length=7"],
    ]
    .concat();
    assert_eq!(bench.pipeline(&[&["run", "run.toml", "--until", "train"], &other[..]].concat()).code, 0);
    assert_agrees(&export(&other, "other"), 48, 300);
}
