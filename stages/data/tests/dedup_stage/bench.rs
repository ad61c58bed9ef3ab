//! Small tables, a run of the stage over them, and what it wrote.

use std::collections::BTreeMap;
use std::path::Path;

use contract::harness::Harness;
use contract::{Digest, InputFile, InputTree, Outputs};
use data::dedup::Dedup;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use serde_json::Value;
use tables::{Document, ShardWriter, read_rows};

/// A table of these shards.
pub fn table(folder: &Path, shards: &[Vec<Document<'_>>]) -> InputTree {
    let outputs = Outputs::stage(folder, ["documents".to_owned()]).unwrap();
    let tree = outputs.tree("documents").unwrap();
    for shard in shards {
        let text = shard.iter().map(|document| format!("{}{}{}", document.repo_name, document.path, document.content));
        let mut writer = ShardWriter::new(tree, Digest::of(text.collect::<String>().as_bytes()));
        shard.iter().for_each(|document| writer.push(document).unwrap());
        writer.finish().unwrap();
    }
    finished(outputs)
}

pub fn finished(outputs: Outputs) -> InputTree {
    let (tree, files) = outputs.finish().unwrap().remove("documents").unwrap();
    let mut files: Vec<_> = files
        .into_iter()
        .map(|(entry, location)| InputFile { path: entry.path, location, digest: entry.digest, size: entry.size })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    InputTree { digest: tree.digest(), files }
}

pub fn document<'a>(repo_name: &'a str, path: &'a str, license: &'a str, content: &'a str) -> Document<'a> {
    Document { repo_name, path, copies: 1, size: content.len() as i64, license: Some(license), content }
}

pub type Trees = BTreeMap<String, InputTree>;

pub fn run(folder: &Path, input: &InputTree, settings: Value) -> Trees {
    Harness::new(folder).connect("documents", input).run::<Dedup>(settings).unwrap()
}

pub fn report(trees: &Trees) -> Value {
    let file = trees["report"].required("report.json").unwrap();
    serde_json::from_slice(&std::fs::read(&file.location).unwrap()).unwrap()
}

/// `(repo_name, path, cluster)` of the kept rows, in order.
pub fn kept(trees: &Trees) -> Vec<(String, String, Option<String>)> {
    let mut rows = Vec::new();
    for batch in read_rows(&trees["documents"]).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (repo_name, path, cluster) = (column("repo_name"), column("path"), column("cluster"));
        rows.extend((0..batch.num_rows()).map(|index| {
            let cluster = cluster.is_valid(index).then(|| cluster.value(index).to_owned());
            (repo_name.value(index).to_owned(), path.value(index).to_owned(), cluster)
        }));
    }
    rows
}

/// `(path, rule, witness, jaccard)` of the dropped rows, in order.
pub fn dropped(trees: &Trees) -> Vec<(String, String, String, f64)> {
    let mut rows = Vec::new();
    for batch in read_rows(&trees["dropped"]).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (path, rule, witness) = (column("path"), column("rule"), column("witness"));
        let jaccard = batch.column_by_name("jaccard").unwrap().as_primitive::<Float64Type>().clone();
        rows.extend((0..batch.num_rows()).map(|index| {
            let text = |column: &datafusion::arrow::array::StringArray| column.value(index).to_owned();
            (text(&path), text(&rule), text(&witness), jaccard.value(index))
        }));
    }
    rows
}

pub fn words(family: &str, range: std::ops::Range<usize>) -> String {
    range.map(|word| format!("{family}{word}")).collect::<Vec<_>>().join(" ")
}
