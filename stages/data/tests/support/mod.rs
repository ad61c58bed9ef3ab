//! Small exports, and tables read back whole.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use contract::InputTree;
use contract::harness::Harness;
use data::import::Import;
use datafusion::arrow::array::{Array, AsArray};
use serde_json::{Value, json};
use tables::{DocumentBatch, Table};

/// A document as the tests compare it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doc {
    pub repo_name: String,
    pub path: String,
    pub license: Option<String>,
    pub content: String,
}

pub fn doc(repo_name: &str, path: &str, license: &str, content: &str) -> Doc {
    let text = str::to_owned;
    Doc { repo_name: text(repo_name), path: text(path), license: Some(text(license)), content: text(content) }
}

/// A line of an export.
pub fn line(doc: &Doc) -> String {
    let size = doc.content.len().to_string();
    let row = json!({
        "repo_name": doc.repo_name, "path": doc.path, "copies": "1", "size": size,
        "content": doc.content, "license": doc.license,
    });
    row.to_string() + "\n"
}

pub fn lines(docs: &[Doc]) -> String {
    docs.iter().map(line).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::new(6));
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A folder of shards, and a harness beside it.
pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub harness: Harness,
}

impl Fixture {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("export")).unwrap();
        let harness = Harness::new(&folder.path().join("runs"));
        Self { folder, harness }
    }

    pub fn shard(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("export").join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Imports all shards with these settings, in place of `min_size = 0`.
    pub fn import(&mut self, settings: Value) -> contract::Result<BTreeMap<String, InputTree>> {
        let mut all = json!({ "source": format!("{}/export/*", self.folder.path().display()), "min_size": 0 });
        for (name, value) in settings.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.harness.inputs.clear();
        self.harness.run::<Import>(all)
    }
}

/// The table of these documents, in one shard.
pub fn table(fixture: &mut Fixture, docs: &[Doc]) -> InputTree {
    fixture.shard("shard.json", lines(docs).as_bytes());
    fixture.import(json!({})).unwrap().remove("documents").unwrap()
}

pub fn documents(tree: &InputTree) -> Vec<Doc> {
    let mut docs = Vec::new();
    for part in Table::open(tree).unwrap().parts() {
        for batch in part.documents().unwrap() {
            let batch = DocumentBatch::try_from(batch.unwrap()).unwrap();
            for index in 0..batch.len() {
                docs.push(Doc {
                    repo_name: batch.repo_name(index).to_owned(),
                    path: batch.path(index).to_owned(),
                    license: batch.license(index).map(str::to_owned),
                    content: batch.content(index).to_owned(),
                });
            }
        }
    }
    docs
}

/// The values of a string column of a table of rows.
pub fn column(tree: &InputTree, name: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for batch in tables::read_rows(tree).unwrap() {
        let batch = batch.unwrap();
        let column = batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        values.extend((0..column.len()).map(|index| (!column.is_null(index)).then(|| column.value(index).to_owned())));
    }
    values
}

pub fn report(trees: &BTreeMap<String, InputTree>) -> Value {
    let file = trees["report"].required("report.json").unwrap();
    serde_json::from_slice(&fs::read(&file.location).unwrap()).unwrap()
}

pub fn digests(trees: &BTreeMap<String, InputTree>) -> BTreeMap<String, String> {
    trees.iter().map(|(port, tree)| (port.clone(), tree.digest.to_string())).collect()
}

/// The shared example data, or `None` with a line that says so.
pub fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("PIPELINE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let export = folder.join("data/export");
    if export.is_dir() {
        return Some(export);
    }
    eprintln!("skipped: no example export at {} (set PIPELINE_SHARED)", export.display());
    None
}
