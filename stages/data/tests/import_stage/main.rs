//! `import` on well-formed and hostile exports.
#![allow(clippy::unwrap_used)]

mod malformed;
mod round_trip;
#[path = "../support/mod.rs"]
mod support;
mod unreadable;

use std::fs;
use std::sync::Arc;

use contract::StageError;
use contract::harness::Harness;
use data::import::Import;
use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use proptest::prelude::*;
use serde_json::json;
use support::{Doc, Fixture, column, digests, doc, documents, gzip, line, lines, report};

fn three() -> Vec<Doc> {
    vec![
        doc("a/one", "x.py", "mit", "print('é < \u{1f600}')\n"),
        doc("b/two", "y.py", "gpl-3.0", "x = 1\r\ny = \"\\u0041\"\n"),
        doc("b/two", "z.py", "mit", ""),
    ]
}

fn message(result: contract::Result<std::collections::BTreeMap<String, contract::InputTree>>) -> String {
    match result {
        Err(StageError::Failed(failure)) => format!("{failure} | {}", failure.hint.clone().unwrap_or_default()),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn rows_come_out_as_they_went_in() {
    for bytes in [lines(&three()).into_bytes(), gzip(lines(&three()).as_bytes())] {
        let mut fixture = Fixture::new();
        fixture.shard("s", &bytes);
        let trees = fixture.import(json!({})).unwrap();
        assert_eq!(documents(&trees["documents"]), three());
        let report = report(&trees);
        assert_eq!((&report["rows"], &report["kept"]), (&json!(3), &json!(3)));
    }
}

#[test]
fn a_gzip_of_several_members_is_read_to_its_end() {
    let mut fixture = Fixture::new();
    let bytes: Vec<u8> = three().iter().flat_map(|doc| gzip(line(doc).as_bytes())).collect();
    fixture.shard("s", &bytes);
    assert_eq!(documents(&fixture.import(json!({})).unwrap()["documents"]), three());
}

#[test]
fn bigquery_escapes_and_numbers_in_both_spellings_are_read() {
    let mut fixture = Fixture::new();
    let rows = concat!(
        r#"{"repo_name":"a/b","path":"x.py","copies":"7","size":"11","content":"\u003c\u003d\u0027\u2028\ud83d\ude00","license":null}"#,
        "\n",
        r#"{"license":"mit","content":"","size":0,"copies":2,"path":"y.py","repo_name":"a/b"}"#,
        "\n",
    );
    fixture.shard("s", rows.as_bytes());
    let trees = fixture.import(json!({})).unwrap();
    let docs = documents(&trees["documents"]);
    assert_eq!(docs[0].content, "<='\u{2028}\u{1f600}");
    assert_eq!(docs[0].license, None);
    assert_eq!(docs[1].content, "");
    assert_eq!(report(&trees)["size_mismatches"], json!(1), "the first has 10 bytes");
}

#[test]
fn a_row_without_the_key_license_has_no_license() {
    let mut fixture = Fixture::new();
    let rows = concat!(
        r#"{"repo_name":"a/b","path":"x.py","copies":"1","size":"1","content":"1"}"#,
        "\n",
        r#"{"repo_name":"a/b","path":"y.py","copies":"1","size":"1","content":"2","license":null}"#,
        "\n",
    );
    fixture.shard("s", rows.as_bytes());
    let trees = fixture.import(json!({})).unwrap();
    let licenses: Vec<_> = documents(&trees["documents"]).into_iter().map(|doc| doc.license).collect();
    assert_eq!(licenses, [None, None]);
}

#[test]
fn marks_line_ends_and_blank_lines_are_tolerated() {
    let mut fixture = Fixture::new();
    let text = lines(&three()).replace('\n', "\r\n");
    fixture.shard("s", format!("\u{feff}{text}\r\n\n  ").as_bytes());
    let trees = fixture.import(json!({})).unwrap();
    assert_eq!(documents(&trees["documents"]), three());
    assert_eq!(report(&trees)["blank_lines"], json!(3));
}

#[test]
fn the_where_rules_drop_and_count() {
    let mut fixture = Fixture::new();
    let docs = [
        doc("a/b", "x.txt", "mit", "12345"),
        doc("a/b", "x.py", "mit", "1234"),
        doc("a/b", "x.py", "mit", "1234567890A"),
        doc("a/b", "x.py", "mit", "123\x00456"),
        doc("a/b", "x.py", "mit", "12345"),
    ];
    fixture.shard("s", lines(&docs).as_bytes());
    let trees = fixture.import(json!({"min_size": 5, "max_size": 10})).unwrap();
    assert_eq!(documents(&trees["documents"]), docs[4..]);
    let rules: Vec<_> = column(&trees["dropped"], "rule").into_iter().flatten().collect();
    assert_eq!(rules, ["suffix", "size", "size", "binary"]);
    let trees = fixture.import(json!({"suffix": "", "max_size": 100, "allow_binary": true})).unwrap();
    assert_eq!(documents(&trees["documents"]).len(), 5);
}

#[test]
fn exports_without_rows_are_empty_tables_with_a_warning() {
    for bytes in [b"".to_vec(), gzip(b""), b"\n\n".to_vec(), b"\xef\xbb\xbf".to_vec()] {
        let mut fixture = Fixture::new();
        fixture.shard("empty", &bytes);
        let trees = fixture.import(json!({})).unwrap();
        assert_eq!(documents(&trees["documents"]), []);
        assert!(format!("{:?}", fixture.harness.progress.drain()).contains("the table is empty"));
    }
}

#[test]
fn no_source_two_sources_and_no_match_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    assert!(message(harness.run::<Import>(json!({}))).contains("no source is set"));
    fs::create_dir(folder.path().join("none")).unwrap();
    let none = format!("{}/none/*", folder.path().display());
    assert!(message(harness.run::<Import>(json!({"source": none}))).contains("no file matches"));
    let mut fixture = Fixture::new();
    let tree = support::table(&mut fixture, &three());
    harness.connect("export", &tree);
    assert!(message(harness.run::<Import>(json!({"source": none}))).contains("both"));
}

#[test]
fn a_pinned_digest_holds_for_these_shards_only() {
    let mut fixture = Fixture::new();
    fixture.shard("s", lines(&three()).as_bytes());
    let pin = report(&fixture.import(json!({})).unwrap())["sources"].clone();
    assert!(fixture.import(json!({ "blake3": pin })).is_ok());
    fixture.shard("t", line(&three()[0]).as_bytes());
    let message = message(fixture.import(json!({ "blake3": pin })));
    assert!(message.contains("the digest of the sources is"), "{message}");
    assert!(fixture.import(json!({"blake3": "xyz"})).is_err());
}

/// A Parquet file with these sizes of empty texts.
fn parquet_of_sizes(sizes: &[&str]) -> Vec<u8> {
    let text = |value: &str| Arc::new(StringArray::from(vec![value; sizes.len()])) as ArrayRef;
    let columns = [
        ("repo_name", text("a/b")),
        ("path", text("x.py")),
        ("copies", text("0")),
        ("size", Arc::new(StringArray::from(sizes.to_vec())) as ArrayRef),
        ("content", text("")),
    ];
    parquet_bytes(&RecordBatch::try_from_iter(columns).unwrap())
}

fn parquet_bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A Parquet file of two rows, the second without a license, with these types of the columns.
fn parquet(strings: &DataType, with_license: bool) -> Vec<u8> {
    parquet_rows(strings, with_license, 2)
}

/// The first `rows` of them.
fn parquet_rows(strings: &DataType, with_license: bool, rows: usize) -> Vec<u8> {
    let text = |values: [Option<&str>; 2]| cast(&StringArray::from(values.to_vec()), strings).unwrap();
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("extra", text([Some(""), None])),
        ("content", text([Some("é"), Some("two")])),
        ("size", Arc::new(StringArray::from(vec!["2", "3"]))),
        ("copies", Arc::new(Int32Array::from(vec![1, 1]))),
        ("path", text([Some("x.py"), Some("y.py")])),
        ("repo_name", text([Some("a/b"), Some("a/b")])),
    ];
    if with_license {
        columns.insert(0, ("license", text([Some("mit"), None])));
    }
    parquet_bytes(&RecordBatch::try_from_iter(columns).unwrap().slice(0, rows))
}

#[test]
fn parquet_is_read_with_any_integer_and_string_types() {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for strings in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        for with_license in [true, false] {
            let mut fixture = Fixture::new();
            fixture.shard("any-name", &parquet(&strings, with_license));
            let trees = fixture.import(json!({})).unwrap();
            let docs = documents(&trees["documents"]);
            let license = with_license.then(|| "mit".to_owned());
            assert_eq!(docs[0], Doc { license, ..doc("a/b", "x.py", "", "é") }, "{strings}");
            assert_eq!((docs[1].license.clone(), docs[1].content.as_str()), (None, "two"), "{strings}");
            assert_eq!(report(&trees)["rows_with_extra_columns"], json!(2), "{strings}");
        }
    }
}

#[test]
fn parquet_without_rows_is_an_empty_shard() {
    let mut fixture = Fixture::new();
    fixture.shard("s.parquet", &parquet_rows(&DataType::Utf8, true, 0));
    let trees = fixture.import(json!({})).unwrap();
    assert_eq!((documents(&trees["documents"]), report(&trees)["rows"].clone()), (Vec::new(), json!(0)));
}

#[test]
fn parquet_without_a_column_is_an_unreadable_shard() {
    let batch = RecordBatch::try_from_iter([("path", Arc::new(StringArray::from(vec!["x.py"])) as ArrayRef)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut fixture = Fixture::new();
    fixture.shard("s.parquet", &bytes);
    let message = message(fixture.import(json!({"max_bad_rows": 5})));
    assert!(message.contains("column 'repo_name' is missing") && message.contains("max_bad_shards"), "{message}");
    let trees = fixture.import(json!({"max_bad_shards": 1})).unwrap();
    assert_eq!(report(&trees)["unreadable_shards"], json!({"parquet": 1}));
}

#[test]
fn names_of_shards_equal_shards_and_threads_change_nothing() {
    let mut fixture = Fixture::new();
    let (a, b) = (lines(&three()), lines(&three()[..2]));
    fixture.shard("a", a.as_bytes());
    fixture.shard("b", b.as_bytes());
    let first = digests(&fixture.import(json!({})).unwrap());
    let mut renamed = Fixture::new();
    renamed.shard("z", a.as_bytes());
    renamed.shard("y", b.as_bytes());
    renamed.harness.resources.threads = 1;
    assert_eq!(digests(&renamed.import(json!({})).unwrap()), first);
    renamed.shard("x", b.as_bytes());
    let trees = renamed.import(json!({})).unwrap();
    assert_eq!(trees["documents"].digest.to_string(), first["documents"]);
    assert_eq!(report(&trees)["identical_shards"], json!(1));
}

#[test]
fn a_set_cancel_flag_stops_it() {
    let mut fixture = Fixture::new();
    fixture.shard("s", lines(&three()).as_bytes());
    fixture.harness.cancel.set();
    assert!(matches!(fixture.import(json!({})), Err(StageError::Interrupted)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes a shard holds, every line is kept, dropped, rejected or blank.
    #[test]
    fn every_line_is_accounted_for(kinds in prop::collection::vec(0u8..6, 0..40)) {
        let text: String = kinds.iter().enumerate().map(|(index, kind)| match kind {
            0 => line(&doc("a/b", &format!("{index}.py"), "mit", "x = 1")),
            1 => line(&doc("a/b", &format!("{index}.rs"), "mit", "x = 1")),
            2 => line(&doc("a/b", &format!("{index}.py"), "mit", "")),
            3 => "{\"half\": ".to_owned() + "\n",
            4 => "\n".to_owned(),
            _ => line(&doc("a/b", &format!("{index}.py"), "mit", "\0binary")),
        }).collect();
        let mut fixture = Fixture::new();
        fixture.shard("s", text.as_bytes());
        let trees = fixture.import(json!({"min_size": 1, "max_bad_rows": 1000, "max_bad_shards": 1})).unwrap();
        let count = |wanted: &[u8]| kinds.iter().filter(|kind| wanted.contains(kind)).count();
        prop_assert_eq!(documents(&trees["documents"]).len(), count(&[0]));
        prop_assert_eq!(column(&trees["dropped"], "rule").len(), count(&[1, 2, 5]));
        // A shard none of whose lines is a row is rejected as well.
        let unreadable = usize::from(count(&[3]) > 0 && count(&[0, 1, 2, 5]) == 0);
        prop_assert_eq!(column(&trees["rejected"], "reason").len(), count(&[3]) + unreadable);
        prop_assert_eq!(report(&trees)["blank_lines"].as_u64(), Some(count(&[4]) as u64));
    }
}

#[test]
fn the_example_export_is_imported_whole() {
    let Some(export) = support::shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    let source = json!({"source": format!("{}/*", export.display())});
    let first = harness.run::<Import>(source.clone()).unwrap();
    let report = report(&first);
    assert_eq!(
        (&report["rows"], &report["kept"], &report["size_mismatches"]),
        (&json!(11_449), &json!(11_449), &json!(0))
    );
    harness.resources.threads = 1;
    assert_eq!(digests(&harness.run::<Import>(source).unwrap()), digests(&first));
}
