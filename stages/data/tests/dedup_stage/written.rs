//! What lies in the trees that are written.

use std::collections::BTreeSet;

use datafusion::arrow::array::AsArray;
use serde_json::{Value, json};
use tables::Table;

use crate::bench::{document, kept, report, run, table, words};

#[test]
fn the_text_is_handed_on_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (words("a", 0..20), words("b", 0..20));
    let shards = [
        vec![document("r", "a.py", "mit", &a), document("r", "a2.py", "mit", &a)],
        vec![document("r", "b.py", "mit", &b)],
    ];
    let input = table(&folder.path().join("in"), &shards);
    let trees = run(folder.path(), &input, json!({}));
    for file in trees["documents"].below("text") {
        assert_eq!(input.file(file.path.as_str()).unwrap(), file);
    }
    assert_eq!(trees["documents"].below("text").count(), 2);
    let table = Table::open(&trees["documents"]).unwrap();
    let contents: Vec<String> = table
        .parts()
        .iter()
        .flat_map(|part| part.read(&["content"]).unwrap())
        .flat_map(|batch| {
            batch.unwrap().column(0).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(contents.iter().collect::<BTreeSet<_>>(), [&a, &b].into());
}

#[test]
fn a_part_of_duplicates_only_is_not_in_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let content = words("a", 0..20);
    let shards = [vec![document("kept", "a.py", "mit", &content)], vec![document("gone", "a.py", "gpl-2.0", &content)]];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &shards), json!({}));
    assert_eq!(trees["documents"].files.len(), 2);
    assert_eq!(kept(&trees)[0].0, "kept");
}

#[test]
fn an_empty_table_gives_an_empty_table() {
    let folder = tempfile::tempdir().unwrap();
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[]), json!({}));
    assert!(trees["documents"].files.is_empty() && trees["dropped"].files.is_empty());
    assert_eq!(report(&trees)["documents"]["rows"], 0);
    assert_eq!(report(&trees)["audit"]["recall"], Value::Null);
}

#[test]
fn one_document_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let trees =
        run(folder.path(), &table(&folder.path().join("in"), &[vec![document("r", "a.py", "mit", "x")]]), json!({}));
    assert_eq!(kept(&trees), [("r".to_owned(), "a.py".to_owned(), None)]);
}
