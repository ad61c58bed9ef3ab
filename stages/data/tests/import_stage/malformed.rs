//! Rows that are none.

use std::fs;
use std::io::Write;

use serde_json::json;

use crate::support::{Fixture, column, doc, documents, line, report};
use crate::{message, parquet_of_sizes, three};

/// What is wrong, the shard's bytes, the line of the failure, words of the message, rows kept before and after.
fn malformed() -> Vec<(&'static str, Vec<u8>, u64, &'static str, usize)> {
    let good = line(&three()[0]);
    let with = |bad: &[u8]| [good.as_bytes(), bad, b"\n", good.as_bytes()].concat();
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
            "fewer copies than none",
            with(good.replace("\"copies\":\"1\"", "\"copies\":-1").trim_end().as_bytes()),
            2,
            "column 'copies' is -1, expected 0 or more",
            2,
        ),
        (
            "a size below 0 in Parquet",
            parquet_of_sizes(&["0", "-7", "2"]),
            2,
            "column 'size' is -7, expected 0 or more",
            2,
        ),
        (
            "a column twice",
            with(good.replace("{\"", "{\"path\":\"p\",\"").trim_end().as_bytes()),
            2,
            "column 'path' is there twice",
            2,
        ),
    ]
}

#[test]
fn a_malformed_row_fails_with_file_line_and_reason() {
    for (what, bytes, at, reason, _) in malformed() {
        let mut fixture = Fixture::new();
        let path = fixture.shard("shard", &bytes);
        let message = message(fixture.import(json!({})));
        assert!(message.starts_with(&format!("{}:{at}: ", path.display())), "{what}: {message}");
        assert!(message.contains(reason) && message.contains("max_bad_rows"), "{what}: {message}");
    }
}

#[test]
fn with_max_bad_rows_malformed_rows_are_rejected_and_the_others_kept() {
    for (what, bytes, at, reason, kept) in malformed() {
        let mut fixture = Fixture::new();
        fixture.shard("shard", &bytes);
        let trees = fixture.import(json!({"max_bad_rows": 1})).unwrap();
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
fn more_bad_rows_than_allowed_fail_in_one_shard_or_over_several() {
    let mut fixture = Fixture::new();
    let good = line(&three()[0]);
    fixture.shard("a", format!("{good}bad\nbad\n").as_bytes());
    assert!(message(fixture.import(json!({"max_bad_rows": 1}))).contains("one more than max_bad_rows = 1"));
    let mut fixture = Fixture::new();
    fixture.shard("a", format!("{good}bad\n").as_bytes());
    fixture.shard("b", format!("{good}worse\n").as_bytes());
    assert!(message(fixture.import(json!({"max_bad_rows": 1}))).contains("2 malformed rows, more"));
    assert!(fixture.import(json!({"max_bad_rows": 2})).is_ok());
}

#[test]
fn a_line_of_100_mb_is_skipped_without_being_held() {
    let mut fixture = Fixture::new();
    let path = fixture.folder.path().join("export/huge");
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    file.write_all(line(&three()[0]).as_bytes()).unwrap();
    file.write_all(b"{\"content\": \"").unwrap();
    let chunk = vec![b'x'; 1 << 20];
    (0..100).for_each(|_| file.write_all(&chunk).unwrap());
    file.write_all(b"\"}\n").unwrap();
    file.write_all(line(&three()[1]).as_bytes()).unwrap();
    file.into_inner().unwrap().sync_all().unwrap();
    let trees = fixture.import(json!({"max_bad_rows": 1, "max_line": 1 << 20})).unwrap();
    assert_eq!(documents(&trees["documents"]), three()[..2]);
    assert_eq!(report(&trees)["rejected"], json!({"long line": 1}));
    assert!(column(&trees["rejected"], "reason")[0].as_ref().unwrap().contains("104857616 bytes"));
    // The same line within a larger limit is read, and is no row for want of columns.
    let message = message(fixture.import(json!({"max_line": 200 << 20})));
    assert!(message.contains("column 'repo_name' is missing"), "{message}");
}

#[test]
fn a_row_with_deeply_nested_values_is_malformed_and_overflows_no_stack() {
    for (depth, fits) in [(100, true), (1_000, false), (2_000_000, false)] {
        let mut fixture = Fixture::new();
        let good = line(&doc("a/a", "a.py", "mit", "x = [[[[{{{{\n"));
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let with_extra = good.trim_end().replacen('{', &format!("{{\"extra\":{nested},"), 1);
        fixture.shard("shard.json", format!("{}\n{with_extra}\n", good.trim_end()).as_bytes());
        let result = fixture.import(json!({ "max_line": 1 << 24 }));
        assert_eq!(result.is_ok(), fits, "{depth}");
        if let Err(error) = result {
            assert!(error.to_string().contains("nested") && error.to_string().contains(":2:"), "{error}");
        }
    }
}

#[test]
fn content_at_the_limit_is_a_row_however_it_is_escaped_and_one_byte_more_is_not() {
    let limit = 1 << 20;
    for content in ["x", "\"", "\u{1}"].map(|byte| byte.repeat(limit)) {
        let long = content.clone() + "x";
        let mut fixture = Fixture::new();
        fixture.shard(
            "s",
            (line(&doc("a/b", "x.py", "mit", &content)) + &line(&doc("a/b", "y.py", "mit", &long))).as_bytes(),
        );
        let settings = json!({"max_size": 1 << 30, "max_line": limit, "max_bad_rows": 1});
        let trees = fixture.import(settings).unwrap();
        let kept = documents(&trees["documents"]);
        assert!(kept.len() == 1 && kept[0].content == content, "{} rows", kept.len());
        let reasons = column(&trees["rejected"], "reason");
        assert_eq!(reasons, [Some("the content has 1048577 bytes, more than max_line = 1048576".to_owned())]);
    }
}

#[test]
fn a_line_has_room_for_six_times_the_content_and_a_mebibyte() {
    let good = line(&doc("a/b", "x.py", "mit", "x = 1"));
    let limit = 6 * 100 + (1 << 20);
    for length in limit - 1..=limit + 1 {
        let mut fixture = Fixture::new();
        fixture.shard("s", (" ".repeat(length - (good.len() - 1)) + &good + &good).as_bytes());
        let report = report(&fixture.import(json!({"max_line": 100, "max_bad_rows": 1})).unwrap());
        let rejected = if length > limit { json!({"long line": 1}) } else { json!({}) };
        assert_eq!(report["rejected"], rejected, "{length}");
    }
}
