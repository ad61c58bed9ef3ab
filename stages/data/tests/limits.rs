//! Each internal size of import and dedup, at it, one below and one above.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::sync::Arc;

use data::dedup::Dedup;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use support::{Fixture, column, doc, documents, line, report, table};

fn around(size: usize) -> [usize; 3] {
    [size - 1, size, size + 1]
}

#[test]
fn content_of_64_mib_is_read_and_longer_content_is_a_malformed_row() {
    let limit = 64 << 20;
    for bytes in around(limit) {
        let mut fixture = Fixture::new();
        let content = "x".repeat(bytes);
        let text = line(&doc("a/b", "x.py", "mit", &content));
        fixture.shard("a.json", (text + &line(&doc("a/b", "y.py", "mit", "y"))).as_bytes());
        let trees = fixture.import(json!({ "max_size": 1 << 30, "max_bad_rows": 1 })).unwrap();
        let kept = documents(&trees["documents"]);
        assert_eq!(kept.len(), if bytes > limit { 1 } else { 2 }, "{bytes} bytes");
        assert!(bytes > limit || kept[0].content == content);
        assert_eq!(column(&trees["rejected"], "kind").len(), usize::from(bytes > limit));
    }
}

#[test]
fn a_cell_of_64_mib_is_read_and_a_longer_one_is_a_malformed_row() {
    let limit = 64 << 20;
    for bytes in around(limit) {
        let mut fixture = Fixture::new();
        let contents = ["x".repeat(bytes), "y".to_owned()];
        let text = |texts: [&str; 2]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let numbers = |of: [i64; 2]| Arc::new(Int64Array::from(of.to_vec())) as ArrayRef;
        let batch = RecordBatch::try_from_iter([
            ("repo_name", text(["a/b", "a/b"])),
            ("path", text(["x.py", "y.py"])),
            ("copies", numbers([1, 1])),
            ("size", numbers([bytes as i64, 1])),
            ("content", text([&contents[0], &contents[1]])),
            ("license", text(["mit", "mit"])),
        ])
        .unwrap();
        let path = fixture.shard("a.parquet", b"");
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let trees = fixture.import(json!({ "max_size": 1 << 30, "max_bad_rows": 1 })).unwrap();
        let kept = documents(&trees["documents"]);
        assert_eq!(kept.len(), if bytes > limit { 1 } else { 2 }, "{bytes} bytes");
        assert!(bytes > limit || kept[0].content == contents[0]);
        assert_eq!(column(&trees["rejected"], "kind").len(), usize::from(bytes > limit));
    }
}

#[test]
fn dropped_and_rejected_rows_are_all_written_around_the_rows_that_are_held() {
    for rows in around(1024) {
        let mut fixture = Fixture::new();
        let dropped: String = (0..rows).map(|row| line(&doc("a/b", &format!("{row}.txt"), "mit", "x"))).collect();
        fixture.shard("a.json", (dropped + &"{}\n".repeat(rows)).as_bytes());
        let trees = fixture.import(json!({ "max_bad_rows": rows })).unwrap();
        assert_eq!(column(&trees["dropped"], "rule").len(), rows);
        assert_eq!(column(&trees["rejected"], "reason").len(), rows);
        assert_eq!(report(&trees)["rows"], 2 * rows);
    }
}

#[test]
fn duplicates_are_found_around_the_tokens_that_a_reader_holds() {
    for tokens in around(1 << 17) {
        let mut fixture = Fixture::new();
        let words = |last: &str| (1..tokens).map(|word| format!("w{word} ")).collect::<String>() + last;
        let docs = [
            doc("a/b", "1.py", "mit", &words("x")),
            doc("a/b", "2.py", "mit", &words("y")),
            doc("a/b", "3.py", "mit", &words(" x")),
            doc("a/b", "4.py", "mit", "another text of a few words which is no copy of those"),
        ];
        let input = table(&mut fixture, &docs);
        fixture.harness.connect("documents", &input);
        let trees = fixture.harness.run::<Dedup>(json!({})).unwrap();
        assert_eq!(documents(&trees["documents"]).len(), 2, "{tokens} tokens");
        let mut rules: Vec<_> = column(&trees["dropped"], "rule").into_iter().flatten().collect();
        rules.sort();
        assert_eq!(rules, ["exact", "near"], "{tokens} tokens");
    }
}
