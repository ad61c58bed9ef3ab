//! `import` on well-formed and hostile exports.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;

use contract::harness::Harness;
use contract::{Note, StageError};
use data::import::Import;
use proptest::prelude::*;
use serde_json::json;
use support::{Bench, Doc, column, digests, doc, documents, gzip, line, lines, report};

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
        let mut bench = Bench::new();
        bench.shard("s", &bytes);
        let trees = bench.import(json!({})).unwrap();
        assert_eq!(documents(&trees["documents"]), three());
        let report = report(&trees);
        assert_eq!((&report["rows"], &report["kept"]), (&json!(3), &json!(3)));
    }
}

#[test]
fn a_gzip_of_several_members_is_read_to_its_end() {
    let mut bench = Bench::new();
    let bytes: Vec<u8> = three().iter().flat_map(|doc| gzip(line(doc).as_bytes())).collect();
    bench.shard("s", &bytes);
    assert_eq!(documents(&bench.import(json!({})).unwrap()["documents"]), three());
}

#[test]
fn bigquery_escapes_and_numbers_in_both_spellings_are_read() {
    let mut bench = Bench::new();
    let rows = concat!(
        r#"{"repo_name":"a/b","path":"x.py","copies":"7","size":"11","content":"\u003c\u003d\u0027\u2028\ud83d\ude00","license":null}"#,
        "\n",
        r#"{"license":"mit","content":"","size":0,"copies":2,"path":"y.py","repo_name":"a/b"}"#,
        "\n",
    );
    bench.shard("s", rows.as_bytes());
    let trees = bench.import(json!({})).unwrap();
    let docs = documents(&trees["documents"]);
    assert_eq!(docs[0].content, "<='\u{2028}\u{1f600}");
    assert_eq!(docs[0].license, None);
    assert_eq!(docs[1].content, "");
    assert_eq!(report(&trees)["size_mismatches"], json!(1), "the first has 10 bytes");
}

#[test]
fn marks_line_ends_and_blank_lines_are_tolerated() {
    let mut bench = Bench::new();
    let text = lines(&three()).replace('\n', "\r\n");
    bench.shard("s", format!("\u{feff}{text}\r\n\n  ").as_bytes());
    let trees = bench.import(json!({})).unwrap();
    assert_eq!(documents(&trees["documents"]), three());
    assert_eq!(report(&trees)["blank_lines"], json!(3));
}

#[test]
fn the_where_rules_drop_and_count() {
    let mut bench = Bench::new();
    let docs = [
        doc("a/b", "x.txt", "mit", "12345"),
        doc("a/b", "x.py", "mit", "1234"),
        doc("a/b", "x.py", "mit", "1234567890A"),
        doc("a/b", "x.py", "mit", "123\x00456"),
        doc("a/b", "x.py", "mit", "12345"),
    ];
    bench.shard("s", lines(&docs).as_bytes());
    let trees = bench.import(json!({"min_size": 5, "max_size": 10})).unwrap();
    assert_eq!(documents(&trees["documents"]), docs[4..]);
    let rules: Vec<_> = column(&trees["dropped"], "rule").into_iter().flatten().collect();
    assert_eq!(rules, ["suffix", "size", "size", "binary"]);
    let trees = bench.import(json!({"suffix": "", "max_size": 100, "allow_binary": true})).unwrap();
    assert_eq!(documents(&trees["documents"]).len(), 5);
}

/// What is wrong, the shard's bytes, the line of the failure, words of the message, rows kept before and after.
fn malformed() -> Vec<(&'static str, Vec<u8>, u64, &'static str, usize)> {
    let good = line(&three()[0]);
    let with = |bad: &[u8]| [good.as_bytes(), bad, b"\n", good.as_bytes()].concat();
    let whole = gzip(lines(&three()).repeat(50).as_bytes());
    vec![
        ("no JSON", with(b"nonsense"), 2, "not a row", 2),
        ("an array", with(b"[1, 2]"), 2, "not a row", 2),
        ("two objects", with(b"{} {}"), 2, "not a row", 2),
        ("an object cut off", with(&good.as_bytes()[..30]), 2, "not a row", 2),
        ("a raw control character", with(good.replace('<', "\u{1}").trim_end().as_bytes()), 2, "not a row", 2),
        ("bad UTF-8", with(b"{\"path\": \"\xff\"}"), 2, "no UTF-8 at byte 10", 2),
        ("half a pair", with(good.replace('<', "\\ud83d").trim_end().as_bytes()), 2, "not a row", 2),
        ("the other half", with(good.replace('<', "\\ude00").trim_end().as_bytes()), 2, "not a row", 2),
        (
            "a missing column",
            with(good.replace("\"size\"", "\"sise\"").trim_end().as_bytes()),
            2,
            "column 'size' is missing",
            2,
        ),
        (
            "no license column",
            with(good.replace("\"license\"", "\"licence\"").trim_end().as_bytes()),
            2,
            "column 'license' is missing",
            2,
        ),
        ("a null", with(good.replace("\"x.py\"", "null").trim_end().as_bytes()), 2, "column 'path' is null", 2),
        ("a wrong type", with(good.replace("\"x.py\"", "3").trim_end().as_bytes()), 2, "not a row", 2),
        (
            "a wrong number",
            with(good.replace("\"copies\":\"1\"", "\"copies\":\"one\"").trim_end().as_bytes()),
            2,
            "'one' is no INT64",
            2,
        ),
        (
            "a fraction",
            with(good.replace("\"copies\":\"1\"", "\"copies\":1.5").trim_end().as_bytes()),
            2,
            "not a row",
            2,
        ),
        (
            "a column twice",
            with(good.replace("{\"", "{\"path\":\"p\",\"").trim_end().as_bytes()),
            2,
            "column 'path' is there twice",
            2,
        ),
        ("a truncated gzip", gzip(good.repeat(3).as_bytes())[..60].to_vec(), 1, "truncated", 0),
        (
            "a gzip without its end",
            gzip(good.as_bytes()).split_last_chunk::<4>().unwrap().0.to_vec(),
            2,
            "truncated",
            1,
        ),
        ("bytes after a gzip", [gzip(good.as_bytes()), b"garbage that is no gzip".to_vec()].concat(), 2, "corrupt", 1),
        (
            "a flipped bit",
            {
                let mut bytes = whole;
                let at = bytes.len() - 6;
                bytes[at] ^= 1;
                bytes
            },
            151,
            "corrupt",
            150,
        ),
        ("a Parquet name only", b"PAR1 is not enough".to_vec(), 1, "Parquet", 0),
    ]
}

#[test]
fn a_malformed_row_fails_with_file_line_and_reason() {
    for (what, bytes, at, reason, _) in malformed() {
        let mut bench = Bench::new();
        let path = bench.shard("shard", &bytes);
        let message = message(bench.import(json!({})));
        assert!(message.starts_with(&format!("{}:{at}: ", path.display())), "{what}: {message}");
        assert!(message.contains(reason) && message.contains("max_bad_rows"), "{what}: {message}");
    }
}

#[test]
fn with_max_bad_rows_malformed_rows_are_rejected_and_the_others_kept() {
    for (what, bytes, at, reason, kept) in malformed() {
        let mut bench = Bench::new();
        bench.shard("shard", &bytes);
        let trees = bench.import(json!({"max_bad_rows": 1})).unwrap();
        assert_eq!(documents(&trees["documents"]).len(), kept, "{what}");
        let reasons = column(&trees["rejected"], "reason");
        assert!(matches!(reasons.as_slice(), [Some(found)] if found.contains(reason)), "{what}: {reasons:?}");
        let report = report(&trees);
        assert_eq!(report["rows"], json!(kept + 1), "{what}");
        let rejected: u64 = report["rejected"].as_object().unwrap().values().filter_map(|count| count.as_u64()).sum();
        assert_eq!(rejected, 1, "{what} at {at}");
    }
}

#[test]
fn what_is_lost_of_a_shard_that_breaks_off_is_told_and_counted() {
    let whole = gzip(lines(&three()).repeat(50).as_bytes());
    let without_its_end = whole.split_last_chunk::<4>().unwrap().0.to_vec();
    for (bytes, line, kept) in [
        (without_its_end, 151, "the 150 rows before it that passed are kept"),
        (whole[..20].to_vec(), 1, "no row before it is kept"),
    ] {
        let mut bench = Bench::new();
        let path = bench.shard("shard", &bytes);
        let trees = bench.import(json!({"max_bad_rows": 1})).unwrap();
        let notes = bench.harness.progress.drain();
        let start = format!("{}:{line}: the gzip file breaks off here", path.display());
        let end = format!("{kept}, the rest of the file is lost");
        let told =
            |note: &Note| matches!(note, Note::Warning { text } if text.starts_with(&start) && text.ends_with(&end));
        assert!(notes.iter().any(told), "{notes:?}");
        assert_eq!(column(&trees["rejected"], "kind"), [Some("gzip".to_owned())]);
        assert_eq!(report(&trees)["rejected"], json!({"gzip": 1}));
    }
}

#[test]
fn more_bad_rows_than_allowed_fail_in_one_shard_or_over_several() {
    let mut bench = Bench::new();
    bench.shard("a", b"bad\nbad\n");
    assert!(message(bench.import(json!({"max_bad_rows": 1}))).contains("one more than max_bad_rows = 1"));
    let mut bench = Bench::new();
    bench.shard("a", b"bad\n");
    bench.shard("b", b"worse\n");
    assert!(message(bench.import(json!({"max_bad_rows": 1}))).contains("2 malformed rows in all"));
    assert!(bench.import(json!({"max_bad_rows": 2})).is_ok());
}

#[test]
fn a_line_of_100_mb_is_skipped_without_being_held() {
    let mut bench = Bench::new();
    let path = bench.folder.path().join("export/huge");
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    file.write_all(line(&three()[0]).as_bytes()).unwrap();
    file.write_all(b"{\"content\": \"").unwrap();
    let chunk = vec![b'x'; 1 << 20];
    (0..100).for_each(|_| file.write_all(&chunk).unwrap());
    file.write_all(b"\"}\n").unwrap();
    file.write_all(line(&three()[1]).as_bytes()).unwrap();
    file.into_inner().unwrap().sync_all().unwrap();
    let trees = bench.import(json!({"max_bad_rows": 1, "max_line": 1 << 20})).unwrap();
    assert_eq!(documents(&trees["documents"]), three()[..2]);
    assert_eq!(report(&trees)["rejected"], json!({"long line": 1}));
    assert!(column(&trees["rejected"], "reason")[0].as_ref().unwrap().contains("104857616 bytes"));
    // The same line within a larger limit is read, and is no row for want of columns.
    let message = message(bench.import(json!({"max_line": 200 << 20})));
    assert!(message.contains("column 'repo_name' is missing"), "{message}");
}

#[test]
fn exports_without_rows_are_empty_tables_with_a_warning() {
    for bytes in [b"".to_vec(), gzip(b""), b"\n\n".to_vec(), b"\xef\xbb\xbf".to_vec()] {
        let mut bench = Bench::new();
        bench.shard("empty", &bytes);
        let trees = bench.import(json!({})).unwrap();
        assert_eq!(trees["documents"].files, []);
        assert!(format!("{:?}", bench.harness.progress.drain()).contains("the table is empty"));
    }
}

#[test]
fn no_source_two_sources_and_no_match_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    assert!(message(harness.run::<Import>(json!({}))).contains("no source is given"));
    fs::create_dir(folder.path().join("none")).unwrap();
    let none = format!("{}/none/*", folder.path().display());
    assert!(message(harness.run::<Import>(json!({"source": none}))).contains("no file matches"));
    let mut bench = Bench::new();
    let tree = support::table(&mut bench, &three());
    harness.connect("export", &tree);
    assert!(message(harness.run::<Import>(json!({"source": none}))).contains("both"));
}

#[test]
fn a_pinned_digest_holds_for_these_shards_only() {
    let mut bench = Bench::new();
    bench.shard("s", lines(&three()).as_bytes());
    let pin = report(&bench.import(json!({})).unwrap())["sources"].clone();
    assert!(bench.import(json!({ "blake3": pin })).is_ok());
    bench.shard("t", line(&three()[0]).as_bytes());
    let message = message(bench.import(json!({ "blake3": pin })));
    assert!(message.contains("the sources have the digest"), "{message}");
    assert!(bench.import(json!({"blake3": "xyz"})).is_err());
}

#[test]
fn parquet_is_read_with_any_integer_and_string_types() {
    use datafusion::arrow::array::{ArrayRef, Int32Array, LargeStringArray, RecordBatch, StringArray};
    use std::sync::Arc;
    let text = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let batch = RecordBatch::try_from_iter([
        ("extra", text(["", ""])),
        ("license", Arc::new(StringArray::from(vec![Some("mit"), None])) as ArrayRef),
        ("content", Arc::new(LargeStringArray::from(vec!["é", "two"])) as ArrayRef),
        ("size", text(["2", "3"])),
        ("copies", Arc::new(Int32Array::from(vec![1, 1])) as ArrayRef),
        ("path", text(["x.py", "y.py"])),
        ("repo_name", text(["a/b", "a/b"])),
    ])
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut bench = Bench::new();
    bench.shard("any-name", &bytes);
    let trees = bench.import(json!({})).unwrap();
    let docs = documents(&trees["documents"]);
    assert_eq!(docs[0], doc("a/b", "x.py", "mit", "é"));
    assert_eq!((docs[1].license.clone(), docs[1].content.as_str()), (None, "two"));
    assert_eq!(report(&trees)["rows_with_extra_columns"], json!(2));
}

#[test]
fn names_of_shards_equal_shards_and_threads_change_nothing() {
    let mut bench = Bench::new();
    let (a, b) = (lines(&three()), lines(&three()[..2]));
    bench.shard("a", a.as_bytes());
    bench.shard("b", b.as_bytes());
    let first = digests(&bench.import(json!({})).unwrap());
    let mut renamed = Bench::new();
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
    let mut bench = Bench::new();
    bench.shard("s", lines(&three()).as_bytes());
    bench.harness.cancel.set();
    assert!(matches!(bench.import(json!({})), Err(StageError::Interrupted)));
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
        let mut bench = Bench::new();
        bench.shard("s", text.as_bytes());
        let trees = bench.import(json!({"min_size": 1, "max_bad_rows": 1000})).unwrap();
        let count = |wanted: &[u8]| kinds.iter().filter(|kind| wanted.contains(kind)).count();
        prop_assert_eq!(documents(&trees["documents"]).len(), count(&[0]));
        prop_assert_eq!(column(&trees["dropped"], "rule").len(), count(&[1, 2, 5]));
        prop_assert_eq!(column(&trees["rejected"], "reason").len(), count(&[3]));
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

#[test]
fn a_row_with_deeply_nested_values_is_malformed_and_overflows_no_stack() {
    for (depth, fits) in [(100, true), (1_000, false), (2_000_000, false)] {
        let mut bench = Bench::new();
        let good = line(&doc("a/a", "a.py", "mit", "x = [[[[{{{{\n"));
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let with_extra = good.trim_end().replacen('{', &format!("{{\"extra\":{nested},"), 1);
        bench.shard("shard.json", format!("{}\n{with_extra}\n", good.trim_end()).as_bytes());
        let result = bench.import(json!({ "max_line": 1 << 24 }));
        assert_eq!(result.is_ok(), fits, "{depth}");
        if let Err(error) = result {
            assert!(error.to_string().contains("nested") && error.to_string().contains(":2:"), "{error}");
        }
    }
}
