//! The files of a tokenizer, in the formats of Hugging Face's libraries.

use std::collections::HashMap;
use std::fs;

use contract::{InputTree, OutputTree, Result, StageError};
use serde_json::{Value, json};

use crate::alphabet;
use crate::merges::Learned;
use crate::text;
use crate::tokenizer::Spec;

const MERGES_FILE: &str = "merges.txt";

/// Writes all files; returns the content of `tokenizer.json`.
pub fn write(spec: &Spec, learned: &Learned, output: &OutputTree) -> Result<Value> {
    let bytes = alphabet::bytes().iter().map(|byte| alphabet::encode(std::slice::from_ref(byte)));
    let learned_tokens = learned.tokens.iter().map(|token| alphabet::encode(token));
    let tokens: Vec<String> = spec.special_tokens.iter().cloned().chain(bytes).chain(learned_tokens).collect();
    let merges: Vec<(&str, &str)> =
        learned.merges.iter().map(|(left, right)| (&*tokens[*left as usize], &*tokens[*right as usize])).collect();

    let specials = spec.special_tokens.iter().zip(0u32..).map(|(token, id)| {
        json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true })
    });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let value = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": specials.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": tokens.iter().zip(0u32..).collect::<HashMap<_, _>>(),
            "merges": merges,
        },
    });
    // Written by the reference, which proves that it can read the file, and orders the vocabulary by id.
    let reference: tokenizers::Tokenizer = serde_json::from_value(value.clone()).map_err(unreadable)?;
    let mut text = reference.to_string(true).map_err(unreadable)?;
    text.push('\n');
    output.write(text::FILE, text.as_bytes())?;

    let end = &spec.special_tokens[0];
    let others = &spec.special_tokens[1..];
    let mut map = json!({ "bos_token": end, "eos_token": end, "unk_token": end });
    if !others.is_empty() {
        map["additional_special_tokens"] = json!(others);
    }
    output.write_json("special_tokens_map.json", &map)?;
    map["add_prefix_space"] = json!(false);
    map["model_max_length"] = json!(spec.model_max_length);
    map["tokenizer_class"] = json!("GPT2Tokenizer");
    map["clean_up_tokenization_spaces"] = json!(false);
    output.write_json(text::CONFIG_FILE, &map)?;

    let lines = tokens.iter().zip(0u32..).map(|(token, id)| format!("  {}: {id}", Value::from(token.as_str())));
    output.write("vocab.json", format!("{{\n{}\n}}\n", lines.collect::<Vec<_>>().join(",\n")).as_bytes())?;
    let lines = merges.iter().map(|(left, right)| format!("{left} {right}\n"));
    output.write(MERGES_FILE, format!("#version: 0.2\n{}", lines.collect::<String>()).as_bytes())?;
    Ok(value)
}

/// Returns the merges of a tokenizer that [`write`] wrote, in order; `None` if they cannot be read.
pub fn merges(tree: &InputTree) -> Option<Vec<String>> {
    let text = fs::read_to_string(&tree.file(MERGES_FILE)?.location).ok()?;
    Some(text.lines().skip(1).map(str::to_owned).collect())
}

fn unreadable(error: impl std::fmt::Display) -> StageError {
    StageError::new(format!("the learned tokenizer cannot be loaded by tokenizers: {error}"))
}
