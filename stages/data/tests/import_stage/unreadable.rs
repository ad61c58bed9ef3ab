//! Shards that cannot be read, or not to their end.

use std::io::Write;

use contract::Note;
use datafusion::arrow::datatypes::DataType;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Fixture, column, doc, documents, gzip, line, lines, report};
use crate::{message, parquet, three};

/// Units of two bytes.
fn utf_16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(bytes).collect()
}

/// Name, bytes, what the message says, what is counted.
fn forms() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let text = lines(&three());
    let tar = [b"data.json".as_slice(), &[0; 248], b"ustar\x0000", text.as_bytes()].concat();
    let after = |start: &[u8]| [start, b"\x01\x02\xff\x80"].concat();
    vec![
        ("s.zst", after(b"\x28\xb5\x2f\xfd"), "zstd -d", "zstd"),
        ("skippable.zst", after(b"\x5a\x2a\x4d\x18"), "zstd -d", "zstd"),
        ("s.xz", after(b"\xfd7zXZ\0"), "xz -d", "xz"),
        ("s.bz2", after(b"BZh91AY&SY"), "bzip2 -d", "bzip2"),
        ("s.zip", after(b"PK\x03\x04"), "unzip", "zip"),
        ("s.avro", after(b"Obj\x01"), "an Avro file", "avro"),
        ("s.tar", tar.clone(), "tar -x", "tar"),
        ("s.tar.gz", gzip(&tar), "tar -x", "tar"),
        ("twice.gz", gzip(&gzip(text.as_bytes())), "compressed twice", "gzip"),
        ("parquet.gz", gzip(b"PAR1\x15\x04"), "Parquet compressed with gzip", "parquet"),
        ("s.parquet", line(&three()[0]).into_bytes(), "not Parquet", "parquet"),
        ("empty.gz", Vec::new(), "an empty file", "empty"),
        ("empty.parquet", Vec::new(), "an empty file", "empty"),
        ("le.json", utf_16(&text, u16::to_le_bytes), "iconv", "utf-16"),
        ("be.json", utf_16(&text, u16::to_be_bytes), "iconv", "utf-16"),
        ("mark.json", utf_16(&format!("\u{feff}{text}"), u16::to_le_bytes), "iconv", "utf-16"),
        ("page", b"\n<!DOCTYPE html>\n<html><head>".to_vec(), "an HTML page", "html"),
        ("page.gz", gzip(b"<html>404</html>"), "an HTML page", "html"),
        ("error", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>".to_vec(), "an XML", "xml"),
        ("s.csv", b"\"repo_name\",\"path\",content\na/b,x.py,1\n".to_vec(), "comma-separated", "csv"),
        ("s.tsv", b"path\trepo_name\n".to_vec(), "comma-separated", "csv"),
        ("array.json", format!("[\n{}]", line(&three()[0])).into_bytes(), "jq -c '.[]'", "json"),
        ("pretty.json", b"{\n  \"repo_name\": \"a/b\"\n}\n".to_vec(), "over several lines", "json"),
        ("s.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "git lfs pull", "git-lfs"),
        ("s.bin", b"\x80\x04\x95\x10\n\n".to_vec(), "binary data", "binary"),
    ]
}

#[test]
fn another_form_is_named_with_what_to_do_and_counted_apart_from_rows() {
    for (name, bytes, says, kind) in forms() {
        let mut fixture = Fixture::new();
        let path = fixture.shard(name, &bytes);
        fixture.shard("good", lines(&three()).as_bytes());
        let found = message(fixture.import(json!({"max_bad_rows": 5})));
        assert!(found.starts_with(&format!("{}: ", path.display())), "{name}: {found}");
        assert!(found.contains(says) && found.contains("max_bad_shards"), "{name}: {found}");

        let trees = fixture.import(json!({"max_bad_shards": 1})).unwrap();
        assert_eq!(documents(&trees["documents"]), three(), "{name}");
        assert_eq!(column(&trees["rejected"], "kind"), [Some(kind.to_owned())], "{name}");
        let report = report(&trees);
        assert_eq!(report["unreadable_shards"], json!({ kind: 1 }), "{name}");
        assert_eq!((&report["rows"], &report["rejected"]), (&json!(3), &json!({})), "{name}");
    }
}

#[test]
fn all_shards_are_looked_at_before_one_is_read() {
    let mut fixture = Fixture::new();
    let first = fixture.shard("a.zst", b"\x28\xb5\x2f\xfd");
    fixture.shard("b.xz", b"\xfd7zXZ\0");
    fixture.shard("c", b"no row");
    for limit in [0, 1] {
        let found = message(fixture.import(json!({"max_bad_rows": 5, "max_bad_shards": limit})));
        assert!(found.starts_with(&format!("{}: zstd-compressed data", first.display())), "{found}");
        assert!(found.contains("2 of 3 shards cannot be read"), "{found}");
    }
    let found = message(fixture.import(json!({"max_bad_rows": 5, "max_bad_shards": 2})));
    assert!(found.contains("3 unreadable shards, more than max_bad_shards = 2"), "{found}");
    assert!(fixture.import(json!({"max_bad_rows": 5, "max_bad_shards": 3})).is_ok());
}

#[test]
fn no_shard_is_read_after_the_limit_is_passed_whatever_the_threads() {
    let found = [1, 4].map(|threads| {
        let mut fixture = Fixture::new();
        fixture.harness.resources.threads = threads;
        (0..8).for_each(|shard| drop(fixture.shard(&shard.to_string(), format!("no row {shard}").as_bytes())));
        let found = message(fixture.import(json!({"max_bad_rows": 100, "max_bad_shards": 2})));
        assert!(found.starts_with("3 unreadable shards, more than max_bad_shards = 2"), "{found}");
        let is_warning = |note: &Note| matches!(note, Note::Warning { .. });
        let read = fixture.harness.progress.drain().iter().filter(|note| is_warning(note)).count();
        // The third one passes the limit; others are being read then.
        assert!(read <= 2 + threads, "{read} shards were read");
        found
    });
    assert_eq!(found[0], found[1]);
}

#[test]
fn an_export_that_was_cut_within_a_character_has_one_bad_row() {
    let mut fixture = Fixture::new();
    fixture.shard("xab", &["\u{e9}rest\"}\n".as_bytes()[1..].to_vec(), lines(&three()).into_bytes()].concat());
    let trees = fixture.import(json!({"max_bad_rows": 1})).unwrap();
    assert_eq!(documents(&trees["documents"]), three());
    assert_eq!(report(&trees)["rejected"], json!({"utf-8": 1}));
}

#[test]
fn an_empty_file_of_json_lines_is_an_empty_shard() {
    let mut fixture = Fixture::new();
    fixture.shard("empty.json", b"");
    fixture.shard("good", lines(&three()).as_bytes());
    assert_eq!(documents(&fixture.import(json!({})).unwrap()["documents"]), three());
    // Of equal files one is read: that whose name says that it is not empty.
    fixture.shard("a.json.gz", b"");
    assert!(message(fixture.import(json!({}))).contains("a.json.gz: an empty file"));
}

#[test]
fn json_lines_without_a_row_are_no_shard() {
    let mut fixture = Fixture::new();
    let path = fixture.shard("s.json", b"{\"path\": 1}\n\n{\"path\": 2}\n");
    fixture.shard("good", lines(&three()).as_bytes());
    let found = message(fixture.import(json!({"max_bad_rows": 5})));
    assert!(
        found.starts_with(&format!("{}:1: none of 2 lines is a row; the first: not a row: ", path.display())),
        "{found}"
    );
    let trees = fixture.import(json!({"max_bad_rows": 5, "max_bad_shards": 1})).unwrap();
    let report = report(&trees);
    assert_eq!((&report["rows"], &report["kept"]), (&json!(5), &json!(3)));
    assert_eq!((&report["rejected"], &report["unreadable_shards"]), (&json!({"json": 2}), &json!({"no rows": 1})));
}

/// What is wrong, the bytes of a gzip file, the line from which it cannot be read, words of the message, rows before.
fn broken() -> Vec<(&'static str, Vec<u8>, u64, &'static str, usize)> {
    let good = line(&three()[0]);
    let whole = gzip(lines(&three()).repeat(50).as_bytes());
    let mut flipped = whole.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    vec![
        ("truncated in the header", whole[..9].to_vec(), 1, "truncated", 0),
        ("truncated", whole[..20].to_vec(), 1, "truncated", 0),
        ("without its end", whole[..whole.len() - 4].to_vec(), 151, "truncated", 150),
        (
            "with other bytes after it",
            [gzip(good.as_bytes()), b"not gzip, but long".to_vec()].concat(),
            2,
            "other bytes follow",
            1,
        ),
        ("with a byte after it", [gzip(good.as_bytes()), b"\n".to_vec()].concat(), 2, "other bytes follow", 1),
        (
            "with a second member cut off",
            [&gzip(good.as_bytes())[..], &whole[..whole.len() - 4]].concat(),
            152,
            "truncated",
            151,
        ),
        ("with a flipped bit", flipped, 151, "cannot be read further: corrupt", 150),
        ("with half a header after it", [gzip(good.as_bytes()), b"\x1f\x8b\x08".to_vec()].concat(), 2, "truncated", 1),
        ("with no header after it", [gzip(good.as_bytes()), [0x1f; 20].to_vec()].concat(), 2, "invalid gzip header", 1),
    ]
}

#[test]
fn the_rows_before_a_fault_of_a_gzip_file_are_kept_and_the_rest_is_counted_as_lost() {
    for (what, bytes, at, reason, rows) in broken() {
        let mut fixture = Fixture::new();
        let path = fixture.shard("shard", &bytes);
        let found = message(fixture.import(json!({"max_bad_rows": 5})));
        assert!(found.starts_with(&format!("{}:{at}: ", path.display())), "{what}: {found}");
        assert!(found.contains(reason) && found.contains("max_bad_shards"), "{what}: {found}");

        fixture.harness.progress.drain();
        let trees = fixture.import(json!({"max_bad_shards": 1})).unwrap();
        let notes = fixture.harness.progress.drain();
        let end = match rows {
            0 => "nothing of the file is kept".to_owned(),
            1 => "the 1 row before it that passed is kept, the rest of the file is lost".to_owned(),
            rows => format!("the {rows} rows before it that passed are kept, the rest of the file is lost"),
        };
        let start = format!("{}:{at}: ", path.display());
        let warned =
            |note: &Note| matches!(note, Note::Warning { text } if text.starts_with(&start) && text.ends_with(&end));
        assert!(notes.iter().any(warned), "{what}: {notes:?}");
        assert_eq!(documents(&trees["documents"]).len(), rows, "{what}");
        assert_eq!(column(&trees["rejected"], "kind"), [Some("gzip".to_owned())], "{what}");
        let report = report(&trees);
        assert_eq!((&report["rows"], &report["rejected"]), (&json!(rows), &json!({})), "{what}");
        assert_eq!(report["unreadable_shards"], json!({"gzip": 1}), "{what}");
        let shard = report["shards"].as_object().unwrap().values().next().unwrap();
        assert_eq!(shard["unreadable"], json!("gzip"), "{what}");
    }
}

#[test]
fn members_of_any_length_are_read_in_turn() {
    // Empty members, and ends of members around the bytes that are read at a time.
    let members = [gzip(b""), gzip(line(&three()[0]).as_bytes()), gzip(b""), gzip(lines(&three()[1..]).as_bytes())];
    let mut fixture = Fixture::new();
    fixture.shard("s", &members.concat());
    assert_eq!(documents(&fixture.import(json!({})).unwrap()["documents"]), three());
    for length in (256 << 10) - 2..=(256 << 10) + 2 {
        let first = member_of_length(&line(&three()[0]), length);
        let mut fixture = Fixture::new();
        fixture.shard("s", &[first, gzip(lines(&three()[1..]).as_bytes())].concat());
        assert_eq!(documents(&fixture.import(json!({})).unwrap()["documents"]), three(), "{length}");
    }
}

/// A gzip member of this many bytes: blank lines, stored and not compressed, take up the room.
fn member_of_length(text: &str, length: usize) -> Vec<u8> {
    let member = |blank_lines: usize| {
        let mut writer = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::none());
        writer.write_all(text.as_bytes()).unwrap();
        writer.write_all("\n".repeat(blank_lines).as_bytes()).unwrap();
        writer.finish().unwrap()
    };
    let about = length - member(0).len();
    (0..200).map(|blocks| member(about - blocks)).find(|member| member.len() == length).unwrap()
}

#[test]
fn an_unreadable_parquet_file_is_an_unreadable_shard() {
    for bytes in [b"PAR1 is not enough".to_vec(), b"PAR1".to_vec()] {
        let mut fixture = Fixture::new();
        fixture.shard("shard", &bytes);
        let found = message(fixture.import(json!({"max_bad_rows": 5})));
        assert!(found.contains("the Parquet file cannot be read") && found.contains("max_bad_shards"), "{found}");
        let trees = fixture.import(json!({"max_bad_shards": 1})).unwrap();
        assert_eq!(report(&trees)["unreadable_shards"], json!({"parquet": 1}));
    }
}

#[test]
fn a_parquet_file_with_fewer_rows_than_its_footer_promises_is_an_unreadable_shard() {
    let mut bytes = parquet(&DataType::Utf8, true);
    // The number of rows, 2, stands before the list of the one row group (in zigzag and the compact protocol of Thrift).
    let number = [0x16, 2 << 1, 0x19, 0x1c];
    let places: Vec<_> = (0..bytes.len() - 4).filter(|at| bytes[*at..*at + 4] == number).collect();
    assert_eq!(places.len(), 1);
    bytes[places[0] + 1] = 3 << 1;
    let mut fixture = Fixture::new();
    fixture.shard("shard", &bytes);
    let found = message(fixture.import(json!({"max_bad_rows": 5})));
    assert!(found.contains("rows read: 2; promised by the footer: 3"), "{found}");
    let trees = fixture.import(json!({"max_bad_shards": 1})).unwrap();
    assert_eq!(documents(&trees["documents"]).len(), 2);
    assert_eq!(report(&trees)["unreadable_shards"], json!({"parquet": 1}));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Wherever a gzip file is cut, the rows before are kept, dropped or rejected, and the shard is counted.
    #[test]
    fn a_gzip_file_cut_anywhere_keeps_the_rows_before(kinds in prop::collection::vec(0u8..3, 1..60), cut in 0.0..1.0f64) {
        let rows: Vec<String> = kinds.iter().enumerate().map(|(index, kind)| match kind {
            0 => line(&doc("a/b", &format!("{index}.py"), "mit", "x = 1")),
            1 => line(&doc("a/b", &format!("{index}.rs"), "mit", "x = 1")),
            _ => "{\"half\": \n".to_owned(),
        }).collect();
        let whole = gzip(rows.concat().as_bytes());
        // From the third byte on, which is needed to know the form, to the last but one.
        let length = 2 + (cut * (whole.len() - 2) as f64) as usize;
        let mut fixture = Fixture::new();
        fixture.shard("s", &whole[..length]);
        let trees = fixture.import(json!({"max_bad_rows": 1000, "max_bad_shards": 1})).unwrap();
        let report = report(&trees);
        let number = |value: &Value| value.as_u64().unwrap_or(0) as usize;
        let read = number(&report["rows"]);
        prop_assert!(read <= kinds.len());
        let count = |kind: u8| kinds[..read].iter().filter(|found| **found == kind).count();
        prop_assert_eq!(documents(&trees["documents"]).len(), count(0));
        prop_assert_eq!(column(&trees["dropped"], "rule").len(), count(1));
        prop_assert_eq!(number(&report["rejected"]["json"]), count(2));
        prop_assert_eq!(&report["unreadable_shards"], &json!({"gzip": 1}));
        prop_assert_eq!(column(&trees["rejected"], "kind").len(), count(2) + 1);
    }
}
