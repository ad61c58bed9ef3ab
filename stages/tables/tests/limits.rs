//! Each internal size of a table, at it, one below and one above: every row and every byte comes back to every reader.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use contract::InputTree;
use datafusion::arrow::array::AsArray;
use parquet::file::reader::{FileReader, SerializedFileReader};
use support::{contents, context, write};
use tables::{
    AnswerFormat, Format, PART_ROWS, PART_TEXT_BYTES, Query, TEXT_GROUP_BYTES, TEXT_GROUP_ROWS, Table, export,
    read_rows,
};

/// Rows of a batch of DataFusion, in a stage and in `sql`.
const BATCHES: [usize; 2] = [8192, 512];
/// Rows of a row group of `rows/`.
const ROWS_GROUP_ROWS: usize = 65_536;

fn around(size: usize) -> [usize; 3] {
    [size - 1, size, size + 1]
}

/// Reads a table in every way there is; the rows of each of its parts.
fn check(folder: &Path, tree: &InputTree, expected: &[String]) -> Vec<u64> {
    assert!(contents(tree) == expected, "documents()");
    let table = Table::open(tree).unwrap();
    for columns in [&["id"][..], &["path", "content"], &[]] {
        let read =
            |part: &tables::Part| part.read(columns).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
        assert_eq!(table.parts().iter().map(read).sum::<usize>(), expected.len(), "read({columns:?})");
    }
    let rows: usize = read_rows(tree).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, expected.len(), "read_rows");

    let bytes: usize = expected.iter().map(String::len).sum();
    let scratch = tempfile::tempdir_in(folder).unwrap();
    let query = Query::new(context(scratch.path(), "q", 3).resources, scratch.path()).unwrap();
    query.register("t", "documents", true, tree).unwrap();
    let mut out = Vec::new();
    let sql = "select count(*), count(id), count(content), sum(octet_length(content)) from t";
    query.answer(sql, AnswerFormat::Csv, &mut out).unwrap();
    let counts = String::from_utf8(out).unwrap();
    let n = expected.len();
    assert_eq!(counts.lines().nth(1).unwrap(), format!("{n},{n},{n},{bytes}"), "sql");

    assert_eq!(export(tree, &scratch.path().join("export"), Format::Parquet).unwrap(), n as u64);
    let mut exported = Vec::new();
    for part in table.parts() {
        let file = fs::File::open(scratch.path().join(format!("export/{}.parquet", part.name))).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("content").unwrap().as_string::<i32>().clone();
            exported.extend(column.iter().map(|text| text.unwrap().to_owned()));
        }
    }
    assert!(exported == expected, "export");
    table.parts().iter().map(|part| part.row_count).collect()
}

/// The rows of each row group of a file of a tree.
fn groups(tree: &InputTree, folder: &str) -> Vec<i64> {
    let file = tree.below(folder).next().unwrap();
    let reader = SerializedFileReader::new(fs::File::open(&file.location).unwrap()).unwrap();
    reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
}

fn numbered(rows: usize, width: usize) -> Vec<String> {
    (0..rows).map(|row| format!("{row:width$}")).collect()
}

#[test]
fn all_rows_come_back_around_the_rows_of_a_batch_and_of_a_group_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = BTreeSet::from([TEXT_GROUP_ROWS, 2 * TEXT_GROUP_ROWS, BATCHES[0], BATCHES[1]]);
    for rows in sizes.into_iter().flat_map(around).chain([1, 30_000]) {
        // Texts of 1.2 KB end a row group of text before its 8,192 rows, so that groups and batches do not coincide.
        for width in [0, 1200] {
            let texts = numbered(rows, width);
            let tree = write(folder.path(), &format!("{rows}-{width}"), std::slice::from_ref(&texts));
            assert_eq!(check(folder.path(), &tree, &texts), [rows as u64]);
            if width == 0 {
                let full = vec![TEXT_GROUP_ROWS as i64; rows / TEXT_GROUP_ROWS];
                let rest = Some((rows % TEXT_GROUP_ROWS) as i64).filter(|rest| *rest > 0);
                assert_eq!(groups(&tree, "text"), full.into_iter().chain(rest).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn all_rows_come_back_around_the_bytes_of_a_group_of_text() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in around(TEXT_GROUP_BYTES) {
        // In two documents, in one, and in one after a small one.
        let halves = vec!["a".repeat(TEXT_GROUP_BYTES / 2), "b".repeat(bytes - TEXT_GROUP_BYTES / 2)];
        let cases = [
            (halves, if bytes > TEXT_GROUP_BYTES { vec![1, 1] } else { vec![2] }),
            (vec!["c".repeat(bytes)], vec![1]),
            (vec![String::new(), "d".repeat(bytes)], if bytes > TEXT_GROUP_BYTES { vec![1, 1] } else { vec![2] }),
            (vec!["e".into(), "f".repeat(bytes), "g".into()], vec![1, 1, 1]),
        ];
        for (number, (texts, expected)) in cases.into_iter().enumerate() {
            let tree = write(folder.path(), &format!("{bytes}-{number}"), std::slice::from_ref(&texts));
            check(folder.path(), &tree, &texts);
            let expected = if bytes < TEXT_GROUP_BYTES && number == 3 { vec![2, 1] } else { expected };
            assert_eq!(groups(&tree, "text"), expected, "{bytes} bytes, case {number}");
        }
    }
}

#[test]
fn all_rows_come_back_around_the_rows_of_a_group_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    for rows in around(ROWS_GROUP_ROWS) {
        let texts = numbered(rows, 0);
        let tree = write(folder.path(), &rows.to_string(), std::slice::from_ref(&texts));
        assert_eq!(check(folder.path(), &tree, &texts), [rows as u64]);
        assert_eq!(groups(&tree, "rows").len(), if rows > ROWS_GROUP_ROWS { 2 } else { 1 });
    }
}

#[test]
fn all_rows_come_back_around_the_rows_of_a_part() {
    let folder = tempfile::tempdir().unwrap();
    for rows in around(PART_ROWS) {
        let texts = numbered(rows, 0);
        let tree = write(folder.path(), &rows.to_string(), std::slice::from_ref(&texts));
        let parts = check(folder.path(), &tree, &texts);
        let full = PART_ROWS as u64;
        assert_eq!(parts, if rows > PART_ROWS { vec![full, 1] } else { vec![rows as u64] });
    }
}

#[test]
fn all_rows_come_back_around_the_bytes_of_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let megabyte = "0123456789abcdef".repeat(1 << 16);
    for bytes in around(PART_TEXT_BYTES) {
        let mut texts = vec![megabyte.clone(); 127];
        texts.push("x".repeat(bytes - 127 * megabyte.len()));
        let tree = write(folder.path(), &bytes.to_string(), std::slice::from_ref(&texts));
        let parts = check(folder.path(), &tree, &texts);
        assert_eq!(parts, if bytes > PART_TEXT_BYTES { vec![127, 1] } else { vec![128] }, "{bytes} bytes");
        fs::remove_dir_all(folder.path().join(bytes.to_string())).unwrap();
    }
}

#[test]
fn a_text_of_64_mib_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in around(64 << 20) {
        let texts = vec!["a".into(), "x".repeat(bytes), "b".into()];
        let tree = write(folder.path(), &bytes.to_string(), std::slice::from_ref(&texts));
        assert_eq!(check(folder.path(), &tree, &texts), [3]);
        fs::remove_dir_all(folder.path().join(bytes.to_string())).unwrap();
    }
}
