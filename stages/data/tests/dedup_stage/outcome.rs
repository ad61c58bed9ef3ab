//! Which documents are kept, which are removed, and what is said of them.

use std::collections::BTreeSet;

use contract::harness::Harness;
use contract::{Kind, StageError};
use data::dedup::Dedup;
use datafusion::arrow::array::AsArray;
use serde_json::{Value, json};
use tables::Table;

use crate::{document, dropped, kept, report, run, table, words};

#[test]
fn the_permissive_copy_is_kept_and_every_removal_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (base, near) = (words("a", 0..20), words("a", 0..21));
    let spaced = base.replace(' ', " \n\t ");
    let other = words("b", 0..20);
    let shard = vec![
        document("gnu", "near.py", "gpl-3.0", &near),
        document("gnu", "spaced.py", "gpl-2.0", &spaced),
        document("free", "base.py", "mit", &base),
        document("free", "other.py", "mit", &other),
    ];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));

    let id = |repo: &str, path: &str, content: &str| tables::document_id(repo, path, content).to_string();
    let ids = [id("free", "base.py", &base), id("gnu", "near.py", &near), id("gnu", "spaced.py", &spaced)];
    let smallest = ids.iter().min().cloned();
    let name = |repo: &str, path: &str, cluster| (repo.to_owned(), path.to_owned(), cluster);
    assert_eq!(kept(&trees), [name("free", "base.py", smallest), name("free", "other.py", None)]);
    assert_eq!(
        dropped(&trees),
        [
            ("near.py".to_owned(), "near".to_owned(), ids[0].clone(), 20.0 / 21.0),
            ("spaced.py".to_owned(), "exact".to_owned(), ids[0].clone(), 1.0),
        ]
    );
    let report = report(&trees);
    assert_eq!(report["documents"]["rows"], 4);
    assert_eq!(report["documents"]["kept"], 2);
    assert_eq!(report["documents"]["dropped"]["exact"]["rows"], 1);
    assert_eq!(report["documents"]["dropped"]["near"]["rows"], 1);
    assert_eq!(report["licenses"]["stricter_than_kept"], 2);
    assert_eq!(report["licenses"]["pairs"]["gpl-3.0 -> mit"], 1);
    assert_eq!(report["clusters"]["clusters"], 1);
    assert_eq!(report["clusters"]["sizes"], json!([{ "from": 3, "to": 4, "clusters": 1, "documents": 3 }]));
    assert_eq!(report["audit"]["recall"], 1.0);
    assert_eq!(report["audit"]["left"], 0);
}

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
    assert!(kept(&trees).is_empty() && dropped(&trees).is_empty());
    let columns = |port: &str| {
        let description = tables::describe(&trees[port]).unwrap();
        description.columns.into_iter().map(|column| column.name).collect::<Vec<_>>()
    };
    let kept = ["id", "repo_name", "path", "copies", "size", "license", "cluster", "row", "content"];
    assert_eq!(columns("documents"), kept);
    assert_eq!(columns("dropped"), ["id", "repo_name", "path", "rule", "witness", "jaccard"]);
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

#[test]
fn of_a_row_that_is_there_twice_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let row = document("r", "a.py", "mit", "import os");
    let trees =
        run(folder.path(), &table(&folder.path().join("in"), &[vec![row, row, row], vec![row, row]]), json!({}));
    assert_eq!(kept(&trees).len(), 1);
    let id = tables::document_id("r", "a.py", "import os").to_string();
    assert_eq!(dropped(&trees).len(), 4);
    assert!(dropped(&trees).iter().all(|row| (row.1.as_str(), &row.2, row.3) == ("exact", &id, 1.0)));
}

#[test]
fn short_documents_are_no_near_duplicates_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // Empty and white space alone are the same content; nine tokens are too few, whatever they are.
    let shard = vec![
        document("r", "1", "mit", ""),
        document("r", "2", "mit", " \n"),
        document("r", "3", "mit", "()"),
        document("r", "4", "mit", "a b c d e f g h i"),
        document("r", "5", "mit", "a b c d e f g h i ()"),
    ];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));
    assert_eq!(kept(&trees).len(), 4);
    assert_eq!(dropped(&trees).iter().map(|row| row.1.as_str()).collect::<Vec<_>>(), ["exact"]);
}

#[test]
fn exact_duplicates_alone_are_removed_without_near() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (words("a", 0..20), words("a", 0..21));
    let shard = vec![document("r", "1", "mit", &a), document("r", "2", "mit", &b), document("r", "3", "mit", &a)];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({ "near": false }));
    assert_eq!((kept(&trees).len(), dropped(&trees).len()), (2, 1));
    assert_eq!(report(&trees)["near"], Value::Null);
}

#[test]
fn kept_documents_near_one_removed_document_share_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    // Each end has 92 of the middle's 100 words and 8 of its own; the ends have only 84 in common.
    let ends =
        [format!("{} {}", words("w", 0..92), words("x", 0..8)), format!("{} {}", words("w", 8..100), words("y", 0..8))];
    let middle = words("w", 0..100);
    let shard = vec![
        document("r", "1", "mit", &ends[0]),
        document("r", "2", "gpl-3.0", &middle),
        document("r", "3", "mit", &ends[1]),
        document("r", "4", "mit", "alone"),
    ];
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));
    let clusters: Vec<_> = kept(&trees).into_iter().map(|row| row.2).collect();
    assert_eq!(clusters.len(), 3);
    assert!(clusters[0].is_some() && clusters[0] == clusters[1] && clusters[2].is_none(), "{clusters:?}");
    assert_eq!(report(&trees)["clusters"]["largest"], 3);
}

#[test]
fn runs_of_tokens_tell_apart_what_single_tokens_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let forward = words("a", 0..20);
    let backward = forward.split(' ').rev().collect::<Vec<_>>().join(" ");
    let shard = vec![document("r", "1", "mit", &forward), document("r", "2", "mit", &backward)];
    let input = table(&folder.path().join("in"), &[shard]);
    assert_eq!(kept(&run(folder.path(), &input, json!({}))).len(), 1);
    assert_eq!(kept(&run(&folder.path().join("5"), &input, json!({ "shingle": 5 }))).len(), 2);
}

#[test]
fn the_first_copy_is_what_prefer_says() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (words("a", 0..20), words("a", 0..21));
    let shard = vec![document("r", "long/path.py", "mit", &short), document("r", "p.py", "gpl-3.0", &long)];
    let input = table(&folder.path().join("in"), &[shard]);
    for (number, (prefer, path)) in [
        (json!(["license"]), "long/path.py"),
        (json!(["path"]), "p.py"),
        (json!(["larger"]), "p.py"),
        (json!(["smaller", "path"]), "long/path.py"),
    ]
    .into_iter()
    .enumerate()
    {
        let trees = run(&folder.path().join(number.to_string()), &input, json!({ "prefer": prefer }));
        assert_eq!(kept(&trees)[0].1, path);
    }
}

#[test]
fn a_second_dedup_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<String> = (0..40).map(|number| words("a", number..number + 30)).collect();
    let paths: Vec<String> = (0..40).map(|number| format!("{number}.py")).collect();
    let shard = contents.iter().zip(&paths).map(|(content, path)| document("r", path, "mit", content)).collect();
    let first = run(folder.path(), &table(&folder.path().join("in"), &[shard]), json!({}));
    assert!(dropped(&first).len() > 5);
    let second = run(&folder.path().join("again"), &first["documents"], json!({}));
    assert_eq!(dropped(&second).len(), 0);
    let columns = Table::open(&second["documents"]).unwrap().rows_schema().clone();
    assert_eq!(columns.fields().iter().filter(|field| field.name() == "cluster").count(), 1);
}

#[test]
fn a_setting_at_its_default_is_not_in_the_key() {
    let kind = Kind::of::<Dedup>();
    let written_out =
        json!({ "threshold": 0.85, "prefer": ["license", "copies", "larger", "path"], "exact": "whitespace" });
    let stage = kind.parse(written_out.as_object().unwrap()).ok().unwrap();
    assert!(stage.spec().is_empty(), "{:?}", stage.spec());
}

#[test]
fn a_set_cancel_flag_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let input = table(&folder.path().join("in"), &[vec![document("r", "a.py", "mit", "x")]]);
    let mut harness = Harness::new(folder.path());
    harness.connect("documents", &input).cancel.set();
    assert!(matches!(harness.run::<Dedup>(json!({})), Err(StageError::Interrupted)));
}
