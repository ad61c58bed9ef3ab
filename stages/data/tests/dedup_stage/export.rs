//! A real export, every pair of whose documents is compared.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use contract::{Digest, InputTree, Outputs};
use datafusion::arrow::array::{AsArray, StringArray};
use datafusion::arrow::datatypes::Float64Type;
use serde_json::{Value, json};
use tables::{Document, ShardWriter, Table, read_rows};

use crate::{dropped, finished, kept, report, run};

/// The export that lies beside the repository, where there is one.
fn export() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("PIPELINE_SHARED").map_or(beside, PathBuf::from).join("data/export");
    if !folder.is_dir() {
        println!("skipped: no export at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// The export's shards as a table.
fn exported(folder: &Path, export: &Path) -> InputTree {
    #[derive(serde::Deserialize)]
    struct Row {
        repo_name: String,
        path: String,
        copies: Value,
        content: String,
        license: Option<String>,
    }
    let mut shards: Vec<PathBuf> = std::fs::read_dir(export).unwrap().map(|entry| entry.unwrap().path()).collect();
    shards.sort();
    let outputs = Outputs::stage(folder, ["documents".to_owned()]).unwrap();
    for shard in &shards {
        let mut writer = ShardWriter::new(outputs.tree("documents").unwrap(), Digest::of_file(shard).unwrap());
        let lines = BufReader::new(flate2::read::MultiGzDecoder::new(std::fs::File::open(shard).unwrap())).lines();
        for line in lines {
            let row: Row = serde_json::from_str(&line.unwrap()).unwrap();
            let copies = row.copies.as_str().map_or_else(|| row.copies.as_i64(), |text| text.parse().ok());
            let document = Document {
                repo_name: &row.repo_name,
                path: &row.path,
                copies: copies.unwrap(),
                size: row.content.len() as i64,
                license: row.license.as_deref(),
                content: &row.content,
            };
            writer.push(&document).unwrap();
        }
        writer.finish().unwrap();
    }
    finished(outputs)
}

#[test]
fn a_real_export_keeps_no_near_duplicates_and_removes_nothing_else() {
    let Some(export) = export() else { return };
    let folder = tempfile::tempdir().unwrap();
    let input = exported(&folder.path().join("in"), &export);
    // Every document is audited: the brute force over all pairs.
    let trees = run(folder.path(), &input, json!({ "audit": 10_000 }));

    let rows = Table::open(&input).unwrap().rows() as usize;
    assert_eq!(kept(&trees).len() + dropped(&trees).len(), rows);
    let recall = report(&trees)["audit"]["recall"].as_f64().unwrap();
    assert!(recall > 0.999, "{recall}");

    // Each witness is kept, and the similarity is what plain sets give.
    let (mut contents, mut kept_ids) = (BTreeMap::new(), BTreeSet::new());
    for part in Table::open(&input).unwrap().parts() {
        for batch in part.read(&["id", "content"]).unwrap() {
            let batch = batch.unwrap();
            let (id, content) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            contents.extend(id.iter().flatten().map(str::to_owned).zip(content.iter().flatten().map(str::to_owned)));
        }
    }
    for part in Table::open(&trees["documents"]).unwrap().parts() {
        for batch in part.read(&["id"]).unwrap() {
            kept_ids.extend(batch.unwrap().column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
        }
    }
    let words = |content: &str| -> HashSet<String> {
        content
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .map(str::to_owned)
            .filter(|w| !w.is_empty())
            .collect()
    };
    let stripped = |content: &str| content.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let mut removed = Vec::new();
    for batch in read_rows(&trees["dropped"]).unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (id, rule, witness) = (column("id"), column("rule"), column("witness"));
        let jaccard = batch.column_by_name("jaccard").unwrap().as_primitive::<Float64Type>();
        removed.extend((0..batch.num_rows()).map(|index| {
            let text = |column: &StringArray| column.value(index).to_owned();
            (text(&id), text(&rule), text(&witness), jaccard.value(index))
        }));
    }
    let near: HashSet<_> = removed
        .iter()
        .filter(|(_, rule, ..)| rule == "near")
        .map(|(id, _, witness, _)| (stripped(&contents[id]), witness))
        .collect();
    for (id, rule, witness, jaccard) in &removed {
        assert!(kept_ids.contains(witness));
        let (a, b) = (&contents[id], &contents[witness]);
        let (x, y) = (words(a), words(b));
        let expected = if x.is_empty() && y.is_empty() {
            1.0
        } else {
            x.intersection(&y).count() as f64 / x.union(&y).count() as f64
        };
        assert_eq!(*jaccard, expected);
        match rule.as_str() {
            // The witness has the same content, or a copy of the document is near it.
            "exact" => assert!(stripped(a) == stripped(b) || near.contains(&(stripped(a), witness))),
            _ => assert!(expected >= 0.85),
        }
    }
    assert!(removed.len() > 100, "{}", removed.len());
}
