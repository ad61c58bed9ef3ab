//! Small models, tokenizers and tokens, as trees.

#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses some of it, and fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use contract::{InputFile, InputTree, OutputTree, Outputs};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use model::config::TensorShape;
use model::{Gpt2, Gpt2Config};
use serde_json::{Map, Value, json};
use tokens::index::{Entry, IndexWriter};
use tokens::packed::{Header, PackedWriter};

/// The id of `<|endoftext|>`: it follows the 256 bytes.
pub const END: u32 = 256;

/// The sizes of the small model.
pub const SIZES: Gpt2Config =
    Gpt2Config { vocabulary: 257, positions: 96, width: 16, layers: 2, heads: 4, end_of_text: Some(END) };

/// A tree with what `write` writes to it.
pub fn tree(folder: &Path, write: impl FnOnce(&OutputTree)) -> InputTree {
    let outputs = Outputs::stage(folder, ["x".to_owned()]).unwrap();
    write(outputs.tree("x").unwrap());
    let (tree, mut files) = outputs.finish().unwrap().remove("x").unwrap();
    files.sort_by(|one, other| one.0.path.cmp(&other.0.path));
    let file = |(entry, location): (contract::TreeEntry, _)| InputFile {
        path: entry.path,
        location,
        digest: entry.digest,
        size: entry.size,
    };
    InputTree { digest: tree.digest(), files: files.into_iter().map(file).collect() }
}

/// The tree of a model whose last weight is NaN; `place` is where its changed file is written.
pub fn not_finite(mut model: InputTree, place: &Path) -> InputTree {
    let weights = model.files.iter_mut().find(|file| file.path.as_str() == "model.safetensors").unwrap();
    let mut bytes = std::fs::read(&weights.location).unwrap();
    bytes.last_chunk_mut::<4>().unwrap().copy_from_slice(&f32::NAN.to_le_bytes());
    weights.location = place.to_owned();
    std::fs::write(place, bytes).unwrap();
    model
}

/// A model with these values.
pub fn gpt2(config: &Gpt2Config, mut values: impl FnMut(&TensorShape) -> Vec<f32>) -> Gpt2 {
    let Ok(model) = Gpt2::new(config, &Device::flex(), |tensor| Ok::<_, std::convert::Infallible>(values(tensor)));
    model
}

/// A model of random values.
pub fn random_gpt2(seed: u64) -> Gpt2 {
    gpt2(&SIZES, |tensor| {
        let values = model::initial::initial_values(&SIZES, seed, tensor);
        values.into_iter().map(|value| if tensor.decays() { value * 8.0 } else { value }).collect()
    })
}

/// A model that writes `text` after the id 10 (a line feed), byte by byte, and the end-of-text token after it: each of
/// its letters must be there once.
pub fn reciting_gpt2(text: &str) -> (Gpt2Config, Gpt2) {
    let config = Gpt2Config { width: 272, heads: 1, layers: 1, ..SIZES };
    let next = |id: usize| match text.bytes().position(|byte| usize::from(byte) == id) {
        Some(at) => text.as_bytes().get(at + 1).map_or(END as usize, |byte| usize::from(*byte)),
        None => usize::from(text.as_bytes()[0]),
    };
    // Each id has a direction of its own; the feed-forward part takes away the direction of the id that is read, and
    // adds that of its successor. `gelu_new` of a large number is that number.
    let model = gpt2(&config, |tensor| {
        let mut values = vec![0.0; tensor.size()];
        let width = config.width;
        match tensor.name.as_str() {
            "wte.weight" => (0..257).for_each(|id| values[id * width + id] = 1.0),
            name if name.ends_with("ln_2.weight") || name.ends_with("ln_f.weight") => values.fill(1.0),
            "h.0.mlp.c_fc.weight" => (0..257).for_each(|id| values[id * 4 * width + id] = 1.0),
            "h.0.mlp.c_proj.weight" => (0..257).for_each(|id| {
                values[id * width + next(id)] += 1.0;
                values[id * width + id] -= 0.5;
            }),
            _ => {}
        }
        values
    });
    (config, model)
}

/// The model as a tree.
pub fn model_tree(folder: &Path, config: &Gpt2Config, model: &Gpt2) -> InputTree {
    tree(folder, |output| model::folder::save(config, model, output).unwrap())
}

/// A tokenizer whose ids are the 256 bytes, then `<|endoftext|>` and `more` other special tokens.
pub fn tokenizer_tree(folder: &Path, more: u32) -> InputTree {
    let mut vocabulary = Map::new();
    for byte in 0..=255u8 {
        vocabulary.insert(letter(byte).to_string(), json!(byte));
    }
    let added = |id: u32, content: String| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let others = (1..=more).map(|number| added(END + number, format!("<|more-{number}|>")));
    let special: Vec<Value> = std::iter::once(added(END, "<|endoftext|>".into())).chain(others).collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": special,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                   "vocab": vocabulary, "merges": [] },
    });
    tree(folder, |output| output.write_json("tokenizer.json", &tokenizer).unwrap())
}

/// GPT-2's letter of a byte: itself where it is printable, else the next free one from U+0100.
fn letter(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(&byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !printable(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// Packed sequences.
pub fn tokens_tree(folder: &Path, vocabulary: u32, sequences: &[Vec<u32>]) -> InputTree {
    let header = Header {
        vocabulary,
        end_of_text: END,
        sequence_length: sequences.first().map_or(8, Vec::len) as u64,
        sequences: sequences.len() as u64,
        documents: 1,
        text_bytes: sequences.iter().flatten().filter(|id| **id < END).count() as u64,
    };
    tree(folder, |output| {
        let mut writer = PackedWriter::new(output.create("tokens.bin").unwrap(), header).unwrap();
        sequences.iter().for_each(|sequence| writer.push(sequence).unwrap());
        writer.finish().unwrap().finish().unwrap();
    })
}

/// Packed sequences with an index, in whose stream these documents have so many tokens each.
pub fn indexed_tokens_tree(
    folder: &Path,
    vocabulary: u32,
    sequences: &[Vec<u32>],
    documents: &[(TestDocument, u64)],
) -> InputTree {
    let header = tokens::index::Header {
        documents: documents.len() as u64,
        sequences: sequences.len() as u64,
        permutation: None,
    };
    let index = tree(&folder.join("index"), |output| {
        let mut writer = IndexWriter::new(output.create(tokens::index::FILE).unwrap(), header).unwrap();
        let mut start = 0;
        for (document, tokens) in documents {
            writer.push(Entry { id: document.id().parse().unwrap(), start, tokens: *tokens }).unwrap();
            start += tokens;
        }
        writer.finish().unwrap().finish().unwrap();
    });
    let tokens = tokens_tree(&folder.join("tokens"), vocabulary, sequences);
    InputTree { files: [index.files, tokens.files].concat(), ..tokens }
}

/// A document of a table.
#[derive(Debug, Clone)]
pub struct TestDocument {
    pub repository: String,
    pub path: String,
    pub license: Option<String>,
    pub text: String,
}

impl TestDocument {
    /// Its id in a table.
    pub fn id(&self) -> String {
        tables::document_id(&self.repository, &self.path, &self.text).to_string()
    }
}

/// A table of documents, spread over shards of these names in turns. What it says of their sizes is wrong.
pub fn documents_tree(folder: &Path, documents: &[TestDocument], shards: &[&str]) -> InputTree {
    tree(folder, |output| {
        for (number, shard) in shards.iter().enumerate() {
            let mut writer = tables::ShardWriter::new(output, contract::Digest::of(shard.as_bytes()));
            for document in documents.iter().skip(number).step_by(shards.len()) {
                let row = tables::Document {
                    repo_name: &document.repository,
                    path: &document.path,
                    copies: 1,
                    size: 7,
                    license: document.license.as_deref(),
                    content: &document.text,
                };
                writer.push(&row).unwrap();
            }
            writer.finish().unwrap();
        }
    })
}

/// A table of rows with these values in its one column.
pub fn rows_tree(folder: &Path, column: &str, values: &[String]) -> InputTree {
    let values: ArrayRef = Arc::new(StringArray::from_iter_values(values));
    let rows = RecordBatch::try_from_iter([(column, values)]).unwrap();
    tree(folder, |output| {
        let mut file = tables::RowsFile::new(output, "rows", rows.schema());
        file.write(&rows).unwrap();
        file.finish().unwrap();
        tables::close(output, &rows.schema(), contract::PortType::Rows).unwrap();
    })
}
