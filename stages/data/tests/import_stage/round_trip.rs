//! What `export` writes is imported again: the same rows, ids and texts.

use std::fs;

use contract::InputTree;
use proptest::prelude::*;
use serde_json::{Value, json};
use tables::{DocumentBatch, Format, Table};

use crate::support::Fixture;

/// All columns of a document, its id first.
type Row = (String, String, String, i64, i64, Option<String>, String);

fn rows(tree: &InputTree) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in Table::open(tree).unwrap().parts() {
        for batch in part.documents().unwrap() {
            let batch = DocumentBatch::try_from(batch.unwrap()).unwrap();
            rows.extend((0..batch.len()).map(|index| {
                let text = str::to_owned;
                (
                    text(batch.id(index)),
                    text(batch.repo_name(index)),
                    text(batch.path(index)),
                    batch.copies(index),
                    batch.size(index),
                    batch.license(index).map(text),
                    text(batch.content(index)),
                )
            }));
        }
    }
    rows
}

fn settings() -> Value {
    json!({"suffix": "", "min_size": 0, "max_size": u64::from(u32::MAX), "allow_binary": true})
}

/// Imports these lines, exports the table in both formats, imports the files, and compares. The rows.
fn round_trip(shards: &[String]) -> Vec<Row> {
    let mut fixture = Fixture::new();
    for (index, shard) in shards.iter().enumerate() {
        fixture.shard(&format!("{index}.json"), shard.as_bytes());
    }
    let documents = fixture.import(settings()).unwrap().remove("documents").unwrap();
    let mut expected = rows(&documents);
    for format in [Format::JsonLines, Format::Parquet] {
        let mut again = Fixture::new();
        let folder = again.folder.path().join("export");
        tables::export(&documents, &folder, format).unwrap();
        let imported = again.import(settings()).unwrap();
        let mut found = rows(&imported["documents"]);
        if shards.len() > 1 {
            // The order of shards is that of their digests, which are other files' now.
            expected.sort();
            found.sort();
        }
        assert!(found == expected, "{format:?}: {} of {} rows are equal", matching(&found, &expected), expected.len());
        assert!(fs::read_dir(folder).unwrap().count() > 0);
    }
    expected
}

fn matching(a: &[Row], b: &[Row]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

fn line(repo_name: &str, path: &str, copies: i64, size: i64, license: Option<Option<&str>>, content: &str) -> String {
    let mut row = json!({"repo_name": repo_name, "path": path, "copies": copies, "size": size, "content": content});
    // A null that is written, and one that is left out.
    if let Some(license) = license {
        row["license"] = json!(license);
    }
    row.to_string() + "\n"
}

/// Strings of characters that formats treat in a special way.
fn text() -> impl Strategy<Value = String> {
    let odd = "\0\u{1}\t\n\r\u{1f}\u{7f}\"\\\\<>&='\u{85}\u{a0}\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}\u{10ffff}é\u{1f600}{}[],:/";
    let odd: Vec<char> = odd.chars().collect();
    let characters = prop_oneof![prop::sample::select(odd), any::<char>()];
    prop::collection::vec(characters, 0..30).prop_map(|characters| characters.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_export_writes_is_imported_again(
        shards in prop::collection::vec(
            prop::collection::vec(
                (text(), text(), 0..=i64::MAX, 0..i64::from(u32::MAX), prop::option::of(prop::option::of(text())), text()),
                1..20,
            ),
            1..4,
        )
    ) {
        let shard = |(index, rows): (usize, &Vec<(String, String, i64, i64, Option<Option<String>>, String)>)| -> String {
            // Two shards of equal rows would be exported to two equal files, of which one is read.
            let rows = rows.iter().enumerate().map(|(row, (repo_name, path, copies, size, license, content))| {
                let repo_name = format!("{index}/{row}/{repo_name}");
                line(&repo_name, path, *copies, *size, license.as_ref().map(Option::as_deref), content)
            });
            rows.collect()
        };
        let lines: Vec<String> = shards.iter().enumerate().map(shard).collect();
        let imported = round_trip(&lines);
        prop_assert_eq!(imported.len(), shards.iter().map(Vec::len).sum::<usize>());
        // The strings are those that went in.
        let mut contents: Vec<&str> = shards.iter().flatten().map(|row| row.5.as_str()).collect();
        let mut found: Vec<&str> = imported.iter().map(|row| row.6.as_str()).collect();
        contents.sort_unstable();
        found.sort_unstable();
        prop_assert_eq!(found, contents);
    }
}

#[test]
fn row_counts_around_every_batch_come_back() {
    // Rows decoded at a time (64), written at a time (1,024), of a group of text (8,192).
    for around in [64, 1024, 8192] {
        for count in around - 1..=around + 1 {
            let lines = (0..count).map(|row| {
                let license = [None, Some(None), Some(Some("mit"))][row % 3];
                line("a/b", &format!("{row}.py"), 1, 1, license, &row.to_string())
            });
            assert_eq!(round_trip(&[lines.collect()]).len(), count);
        }
    }
}

#[test]
fn large_texts_come_back() {
    // Around the bytes of a group of text (8 MiB), and long tokens and lines.
    let group = tables::TEXT_GROUP_BYTES;
    let lengths = [group - 1, group, group + 1, 1 << 16, 3, 0];
    let lines = lengths.iter().map(|length| line("a/b", "x.py", 1, *length as i64, None, &"é\n".repeat(length / 3)));
    let imported = round_trip(&[lines.collect()]);
    assert_eq!(imported.iter().map(|row| row.6.len()).collect::<Vec<_>>(), lengths.map(|length| length / 3 * 3));
}
