//! Which files are read, and that their names do not matter.

use std::fs;

use contract::StageError;
use contract::harness::Harness;
use data::import::Import;
use serde_json::json;

use crate::bench::{message, three};
use crate::support::{self, Bench, digests, gzip, line, lines, report};

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
