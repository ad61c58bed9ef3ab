//! Texts, and tables of documents that hold them.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{Digest, InputFile, InputTree, Outputs};
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use flate2::read::MultiGzDecoder;
use tables::{Document, ShardWriter};

/// The first `count` files of a real export in the order of the shards' names (`data/export` below `PIPELINE_SHARED`,
/// else `../shared`), or `None` with the reason printed.
pub fn texts(count: usize) -> Option<Vec<String>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("PIPELINE_SHARED").map_or_else(beside, PathBuf::from).join("data/export");
    let Ok(shards) = fs::read_dir(&folder) else {
        eprintln!("skipped: no export in {} (PIPELINE_SHARED)", folder.display());
        return None;
    };
    let mut shards: Vec<_> = shards.map(|entry| entry.unwrap().path()).collect();
    shards.sort();
    let lines =
        shards.into_iter().flat_map(|shard| BufReader::new(MultiGzDecoder::new(File::open(shard).unwrap())).lines());
    let content = |line: std::io::Result<String>| {
        let row: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        row["content"].as_str().unwrap().to_owned()
    };
    Some(lines.take(count).map(content).collect())
}

/// Texts like Python's, each unlike the others, some with what a tokenizer might trip over.
pub fn invented(count: usize) -> Vec<String> {
    let odd = ["", "\n", "<|endoftext|>", "é日本\u{1F600}\u{200d}\r\n\t", "x = '<|endoftext|>'\n", "\u{0}\u{feff}  "];
    let program = |n: usize| {
        let body: String = (0..n % 13).map(|k| format!("    value_{k} = self.items[{}] + {n}\n", k * n)).collect();
        format!("def function_{n}(self):\n    \"\"\"It's number {n}.\"\"\"\n{body}    return value_{}\n", n % 5)
    };
    (0..count)
        .map(|n| odd.get(n / 7).filter(|_| n % 7 == 3).map_or_else(|| program(n), |odd| (*odd).to_owned()))
        .collect()
}

/// The id of the `n`-th text's document.
pub fn id(n: usize, text: &str) -> Digest {
    tables::document_id("owner/name", &format!("{n}.py"), text)
}

/// A table of these texts, spread over shards of these digests.
pub fn table(folder: &Path, texts: &[String], shards: &[&str]) -> InputTree {
    let outputs = Outputs::stage(folder, ["documents".to_owned()]).unwrap();
    let output = outputs.tree("documents").unwrap();
    for (number, shard) in shards.iter().enumerate() {
        let mut writer = ShardWriter::new(output, Digest::of(shard.as_bytes()));
        for (n, text) in texts.iter().enumerate().filter(|(n, _)| n % shards.len() == number) {
            let path = format!("{n}.py");
            let (size, license) = (text.len() as i64, Some("mit"));
            writer
                .push(&Document { repo_name: "owner/name", path: &path, copies: 1, size, license, content: text })
                .unwrap();
        }
        writer.finish().unwrap();
    }
    let (tree, files) = outputs.finish().unwrap().remove("documents").unwrap();
    let file = |(entry, location): (contract::TreeEntry, PathBuf)| InputFile {
        path: entry.path,
        location,
        digest: entry.digest,
        size: entry.size,
    };
    let mut files: Vec<_> = files.into_iter().map(file).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    InputTree { digest: tree.digest(), files }
}

/// The table as another program may write it: the second row of the first part has no id.
pub fn without_an_id(folder: &Path, table: &InputTree) -> InputTree {
    let mut tree = table.clone();
    let file = tree.files.iter_mut().find(|file| file.path.as_str().starts_with("rows/")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file.location).unwrap()).unwrap();
    let batch = reader.build().unwrap().next().unwrap().unwrap();
    let ids = batch.column_by_name("id").unwrap().as_string::<i32>();
    let ids: StringArray = ids.iter().enumerate().map(|(row, id)| id.filter(|_| row != 1)).collect();
    let columns =
        batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| match field.name().as_str() {
            "id" => ("id", Arc::new(ids.clone()) as ArrayRef, true),
            name => (name, column.clone(), field.is_nullable()),
        });
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file.location = folder.join("without-an-id");
    fs::write(&file.location, &bytes).unwrap();
    (file.digest, file.size) = (Digest::of(&bytes), bytes.len() as u64);
    tree
}

/// A tree of one file.
pub fn tree_of(folder: &Path, path: &str, content: &[u8]) -> InputTree {
    let location = folder.join(Digest::of(content).short());
    fs::write(&location, content).unwrap();
    let file =
        InputFile { path: path.parse().unwrap(), location, digest: Digest::of(content), size: content.len() as u64 };
    InputTree { digest: file.digest, files: vec![file] }
}

/// The content of a tree's file.
pub fn read(tree: &InputTree, path: &str) -> Vec<u8> {
    fs::read(&tree.required(path).unwrap().location).unwrap()
}
