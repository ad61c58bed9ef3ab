//! The table format: written, opened, read, filtered, described and exported.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use contract::{Context, InputTree, StageError};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt32Type};
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{col, lit, when};
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;
use support::{contents, context, finish, in_order, shard, write};
use tables::{Format, RULE, Session, TEXT_GROUP_BYTES, Table, TableError, describe, export, filter, part_name};

/// Documents longer than `limit` are dropped.
fn shorter_than(context: &Context, tree: &InputTree, limit: i64) -> contract::Result<tables::Attrition> {
    let table = Table::open(tree)?;
    let rule = when(col("size").lt(lit(limit)), lit(ScalarValue::Utf8(None))).otherwise(lit("long")).unwrap();
    filter(context, &table, |documents| documents.with_column(RULE, rule.clone()), |_| Ok(()))
}

fn big() -> Vec<String> {
    // Several row groups: texts of 0.3 to 3 MiB, and small ones between.
    (0..40u32).map(|i| format!("{i} ").repeat(if i % 4 == 0 { 100_000 + i as usize * 20_000 } else { 3 })).collect()
}

#[test]
fn documents_come_back_in_order_with_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    let shards = vec![big(), vec!["one".into()], vec![], vec![String::new(), "é\r\n".into()]];
    let tree = write(folder.path(), "w", &shards);
    assert_eq!(contents(&tree), in_order(&shards));
    let table = Table::open(&tree).unwrap();
    assert_eq!((table.rows(), table.parts().len()), (43, 3), "a shard without rows has no part");
    assert!(table.parts().iter().any(|part| part.name == part_name(shard(1), 0)));
}

#[test]
fn batches_are_bounded_by_a_row_group_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[big()]);
    let table = Table::open(&tree).unwrap();
    let sizes: Vec<usize> = table.parts()[0]
        .read(&["content"])
        .unwrap()
        .map(|batch| batch.unwrap().column(0).as_string::<i32>().iter().flatten().map(str::len).sum())
        .collect();
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= TEXT_GROUP_BYTES), "{sizes:?}");
}

#[test]
fn a_part_ends_at_its_limit_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[(0..35).map(|i| i.to_string().repeat(4 << 20)).collect()]);
    let names: Vec<_> =
        Table::open(&tree).unwrap().parts().iter().map(|part| (part.name.clone(), part.row_count)).collect();
    // The texts 0 to 9 have 4 MiB, the others 8: 40 and 11 times 8 make 128 MiB.
    assert_eq!(names, [(part_name(shard(0), 0), 21), (part_name(shard(0), 1), 14)]);
}

#[test]
fn equal_rows_are_equal_bytes_for_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let shards: Vec<_> = (0..6).map(|i| vec![format!("{i}").repeat(1000), "x".into()]).collect();
    let tree = write(folder.path(), "w", &shards);
    assert_eq!(write(folder.path(), "again", &shards).digest, tree.digest);
    let run = |name: &str, threads: usize| {
        let context = context(folder.path(), name, threads);
        shorter_than(&context, &tree, 100).unwrap();
        finish(context).into_iter().map(|(port, tree)| (port, tree.digest)).collect::<Vec<_>>()
    };
    assert_eq!(run("one", 1), run("four", 4));
}

#[test]
fn a_filter_hands_on_the_text_and_drops_parts_without_rows() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[vec!["a".repeat(50), "b".into()], vec!["c".repeat(60)]]);
    let context = context(folder.path(), "f", 2);
    let counts = shorter_than(&context, &tree, 10).unwrap();
    assert!(counts.conserves());
    assert_eq!((counts.rows, counts.kept, counts.dropped["long"].rows, counts.dropped["long"].bytes), (3, 1, 2, 110));
    let trees = finish(context);
    assert_eq!(contents(&trees["documents"]), ["b"]);
    let paths: Vec<_> = trees["documents"].files.iter().map(|file| file.path.to_string()).collect();
    let name = part_name(shard(0), 0);
    assert_eq!(paths, [format!("rows/{name}.parquet"), format!("text/{name}.text")]);
    let text = |tree: &InputTree| tree.file(&format!("text/{name}.text")).unwrap().location.clone();
    assert_eq!(text(&trees["documents"]), text(&tree), "no byte of text was copied");
    let dropped: Vec<_> = tables::read_rows(&trees["dropped"]).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(dropped.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
}

#[test]
fn columns_that_a_plan_adds_are_kept_and_underscored_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[vec!["abc".into(), "d".into()]]);
    let context = context(folder.path(), "f", 2);
    let seen = std::sync::Mutex::new(0);
    filter(
        &context,
        &Table::open(&tree).unwrap(),
        |documents| {
            documents
                .with_column("length", datafusion::prelude::length(col("content")))?
                .with_column("_twice", col("size") * lit(2i64))?
                .with_column(RULE, lit(ScalarValue::Utf8(None)))
        },
        |batch| {
            *seen.lock().unwrap() += batch.column_by_name("_twice").unwrap().as_primitive::<Int64Type>().value(0);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(seen.into_inner().unwrap(), 6);
    let tree = finish(context).remove("documents").unwrap();
    let table = Table::open(&tree).unwrap();
    assert!(table.has_column("length") && !table.has_column("_twice") && !table.has_column("rule"));
    assert_eq!(table.rows_schema().fields().last().unwrap().name(), "row");
    assert_eq!(contents(&tree), ["abc", "d"]);
}

#[test]
fn a_plan_that_loses_rows_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[vec!["abc".into(), "d".into()]]);
    let context = context(folder.path(), "f", 2);
    let lossy = filter(
        &context,
        &Table::open(&tree).unwrap(),
        |documents| documents.filter(col("size").gt(lit(2i64)))?.with_column(RULE, lit(ScalarValue::Utf8(None))),
        |_| Ok(()),
    );
    assert!(lossy.unwrap_err().to_string().contains("returned 1 rows"));
}

#[test]
fn a_set_cancel_flag_stops_a_filter() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[vec!["abc".into()]]);
    let context = context(folder.path(), "f", 2);
    context.cancel.set();
    assert!(matches!(shorter_than(&context, &tree, 1), Err(StageError::Interrupted)));
}

#[test]
fn text_is_not_opened_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = write(folder.path(), "w", &[vec!["abc".into(), "de".into()]]);
    for file in &mut tree.files {
        if file.path.as_str().starts_with("text/") {
            file.location = folder.path().join("nowhere");
        }
    }
    let context = context(folder.path(), "s", 2);
    let table = Table::open(&tree).unwrap();
    let session = Session::new(&context).unwrap();
    let plan = session.documents(&table).unwrap().aggregate(vec![], vec![count(lit(1)).alias("n")]).unwrap();
    let batches = session.collect(plan).unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 2);
    let plan = session.documents(&table).unwrap().select_columns(&["content"]).unwrap();
    assert!(session.collect(plan).is_err());
}

#[test]
fn sql_joins_content_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[big(), vec!["needle".into()]]);
    let context = context(folder.path(), "s", 2);
    let table = Table::open(&tree).unwrap();
    let session = Session::new(&context).unwrap();
    session
        .context()
        .register_table("documents", std::sync::Arc::new(tables::FilesProvider::documents(&table)))
        .unwrap();
    let plan = futures::executor::block_on(
        session.context().sql("SELECT \"row\" FROM documents WHERE content LIKE 'needle' OR content LIKE '39 %'"),
    );
    let batches = session.collect(plan.unwrap()).unwrap();
    let mut rows: Vec<u32> =
        batches.iter().flat_map(|b| b.column(0).as_primitive::<UInt32Type>().values().to_vec()).collect();
    rows.sort();
    assert_eq!(rows, [0, 39]);
}

#[test]
fn trees_that_are_no_tables_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let good = write(folder.path(), "w", &[vec!["abc".into()]]);
    let without = |folder: &str| InputTree {
        digest: good.digest,
        files: good.files.iter().filter(|file| !file.path.as_str().starts_with(folder)).cloned().collect(),
    };
    assert!(matches!(Table::open(&without("text")), Err(TableError::Half { .. })));
    assert!(matches!(Table::open(&without("rows")), Err(TableError::Half { .. })));
    let mut foreign = good.clone();
    foreign.files[0].path = "model.safetensors".parse().unwrap();
    assert!(matches!(Table::open(&foreign), Err(TableError::Foreign { .. })));
    let mut swapped = good.clone();
    let location = swapped.files[0].location.clone();
    swapped.files[0].location = std::mem::replace(&mut swapped.files[1].location, location);
    assert!(matches!(Table::open(&swapped), Err(TableError::Column { .. })));
    let garbage = folder.path().join("garbage");
    fs::write(&garbage, b"PAR1 this is no parquet PAR1").unwrap();
    let mut damaged = good.clone();
    damaged.files[0].location = garbage;
    assert!(matches!(Table::open(&damaged), Err(TableError::Parquet { .. })));
    assert_eq!(Table::open(&InputTree { digest: good.digest, files: Vec::new() }).unwrap().rows(), 0);
}

#[test]
fn a_damaged_text_is_an_error_and_not_other_text() {
    let folder = tempfile::tempdir().unwrap();
    let long = write(folder.path(), "w", &[vec!["abc".into(), "d".into()]]);
    let short = write(folder.path(), "v", &[vec!["abc".into()]]);
    let mut mixed = long.clone();
    mixed.files[1].location = short.files[1].location.clone();
    let table = Table::open(&mixed).unwrap();
    let error = table.parts()[0].documents().unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error, TableError::Rows { .. }), "{error}");
}

#[test]
fn exports_hold_all_columns_and_rows() {
    let folder = tempfile::tempdir().unwrap();
    let shards = [vec!["abc\n".to_owned(), "é".into()], vec!["x".into()]];
    let tree = write(folder.path(), "w", &shards);
    let lines = folder.path().join("lines");
    assert_eq!(export(&tree, &lines, Format::JsonLines).unwrap(), 3);
    let mut names: Vec<_> = fs::read_dir(&lines).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let text: String = names.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found, in_order(&shards));
    assert!(rows.iter().all(|row| row["copies"] == 1 && row["id"].as_str().unwrap().len() == 64));
    let columns: Vec<_> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(columns, ["content", "copies", "id", "license", "path", "repo_name", "size"], "nulls among them");
    assert!(rows.iter().any(|row| row["license"].is_null()));
    let parquet = folder.path().join("parquet");
    assert_eq!(export(&tree, &parquet, Format::Parquet).unwrap(), 3);
    assert_eq!(fs::read_dir(parquet).unwrap().count(), 2);
}

#[test]
fn a_table_without_rows_has_its_columns() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[vec!["abc".into(), "d".into()]]);
    // One filter that drops nothing and adds a column, and one that drops all of its rows.
    let context1 = context(folder.path(), "keeps", 2);
    let none = lit(ScalarValue::Utf8(None));
    let plan = |documents: DataFrame| documents.with_column("note", lit("x"))?.with_column(RULE, none.clone());
    filter(&context1, &Table::open(&tree).unwrap(), plan, |_| Ok(())).unwrap();
    let keeps = finish(context1);
    let context2 = context(folder.path(), "drops", 2);
    assert_eq!(shorter_than(&context2, &keeps["documents"], 0).unwrap().kept, 0);
    let drops = finish(context2);
    let paths = |tree: &InputTree| tree.files.iter().map(|file| file.path.to_string()).collect::<Vec<_>>();
    assert_eq!(paths(&keeps["dropped"]), ["rows/empty.parquet"]);
    assert_eq!(paths(&drops["documents"]), ["rows/empty.parquet", "text/empty.text"]);
    let described = |tree: &InputTree| {
        let description = describe(tree).unwrap();
        assert_eq!((description.rows, description.sample.len()), (0, 0));
        description.columns.into_iter().map(|column| format!("{} {}", column.name, column.ty)).collect::<Vec<_>>()
    };
    assert_eq!(described(&keeps["dropped"]), ["id Utf8", "repo_name Utf8", "path Utf8", "rule Utf8", "detail Utf8"]);
    let columns = described(&drops["documents"]);
    assert_eq!(columns[6..], ["note Utf8", "row UInt32", "content Utf8"]);
    let table = Table::open(&drops["documents"]).unwrap();
    assert!(table.parts().is_empty() && table.has_column("note"));

    // A filter of the empty table has its columns too, and no part of its own.
    let context3 = context(folder.path(), "empty", 2);
    assert_eq!(shorter_than(&context3, &drops["documents"], 0).unwrap(), tables::Attrition::default());
    let empty = finish(context3);
    assert_eq!(described(&empty["documents"]), columns);
    assert_eq!(empty["dropped"].digest, keeps["dropped"].digest, "no table says who wrote it");

    let query = tables::Query::new(context(folder.path(), "q", 2).resources, folder.path()).unwrap();
    query.register("keeps", "dropped", true, &keeps["dropped"]).unwrap();
    query.register("drops", "documents", true, &drops["documents"]).unwrap();
    let mut out = Vec::new();
    let sql = "select rule, note, content from keeps full join drops on keeps.id = drops.id";
    query.answer(sql, tables::AnswerFormat::Csv, &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "rule,note,content\n");
}

#[test]
fn an_export_of_a_table_without_rows_is_a_file_with_its_columns() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[]);
    let context = context(folder.path(), "f", 2);
    shorter_than(&context, &tree, 10).unwrap();
    let dropped = &finish(context)["dropped"];
    let nothing = InputTree { digest: tree.digest, files: Vec::new() };
    let documents = ["id", "repo_name", "path", "copies", "size", "license", "content"];
    let rows = ["id", "repo_name", "path", "rule", "detail"];
    for (name, tree, columns) in [("t", &tree, &documents[..]), ("d", dropped, &rows), ("n", &nothing, &documents)] {
        let to = folder.path().join(format!("{name}-parquet"));
        assert_eq!(export(tree, &to, Format::Parquet).unwrap(), 0);
        let file = fs::File::open(to.join("empty.parquet")).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let names: Vec<_> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(
            (names, reader.build().unwrap().count()),
            (columns.iter().map(|name| name.to_string()).collect(), 0)
        );
        let to = folder.path().join(format!("{name}-jsonl"));
        assert_eq!(export(tree, &to, Format::JsonLines).unwrap(), 0);
        assert_eq!(fs::read(to.join("empty.jsonl")).unwrap(), b"");
    }
}

#[test]
fn a_read_that_ends_before_the_last_row_is_an_error_for_every_reader() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[(0..9000).map(|i| i.to_string()).collect()]);
    let short = write(folder.path(), "short", &[(0..8999).map(|i| i.to_string()).collect()]);
    // Files change below an opened table: the rows come from a file that has one fewer.
    let mut part = Table::open(&tree).unwrap().parts()[0].clone();
    part.rows = short.files[0].clone();
    let incomplete = |error: &dyn std::fmt::Display| {
        assert_eq!(
            error.to_string(),
            format!("read 8999 rows of the table's file '{}', expected 9000", part.rows.path)
        );
    };
    for columns in [&["id"][..], &["content"], &["id", "content", "row"], &[]] {
        let results: Vec<_> = part.read(columns).unwrap().collect();
        incomplete(results.last().unwrap().as_ref().unwrap_err());
        assert_eq!(results.iter().filter(|batch| batch.is_err()).count(), 1, "and the reader ends");
    }
    let context = context(folder.path(), "s", 2);
    let session = Session::new(&context).unwrap();
    for columns in [&["id"][..], &["content"]] {
        let plan = session.part(&part).unwrap().select_columns(columns).unwrap();
        incomplete(&session.collect(plan).unwrap_err());
    }
    let rows = session.part(&part).unwrap().aggregate(vec![], vec![count(lit(1))]).unwrap();
    incomplete(&session.collect(rows).unwrap_err());
    // A read that wants no more ends where it likes.
    let first = session.part(&part).unwrap().select_columns(&["content"]).unwrap().limit(0, Some(10)).unwrap();
    assert_eq!(session.collect(first).unwrap().iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
    assert!(part.documents().unwrap().next().unwrap().is_ok());
}

#[test]
fn a_row_group_of_text_says_how_many_bytes_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[vec!["abc".into(), "de".into()]]);
    let file = parquet::file::reader::SerializedFileReader::new(fs::File::open(&tree.files[1].location).unwrap());
    let metadata = parquet::file::reader::FileReader::metadata(&file.unwrap()).clone();
    assert_eq!(metadata.row_group(0).column(0).unencoded_byte_array_data_bytes(), Some(5));
}

#[test]
fn a_description_has_counts_columns_and_a_sample() {
    let folder = tempfile::tempdir().unwrap();
    let tree = write(folder.path(), "w", &[(0..9).map(|i| i.to_string().repeat(500)).collect()]);
    let description = describe(&tree).unwrap();
    assert_eq!((description.files, description.rows, description.sample.len()), (2, 9, 5));
    assert_eq!(description.bytes, tree.files.iter().map(|file| file.size).sum::<u64>());
    assert_eq!(description.columns.last().unwrap().name, "content");
    assert_eq!(description.sample[1]["content"].as_str().unwrap(), "1".repeat(200) + "…");
    let context = context(folder.path(), "f", 2);
    shorter_than(&context, &tree, 10).unwrap();
    let trees = finish(context);
    assert_eq!(describe(&trees["dropped"]).unwrap().rows, 9);
    let empty = describe(&trees["documents"]).unwrap();
    assert_eq!((empty.rows, empty.columns), (0, description.columns));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Filters, one after another, keep what a plain loop keeps, and count every row once.
    #[test]
    fn chains_of_filters_keep_what_a_loop_keeps(
        lengths in prop::collection::vec(prop::collection::vec(0usize..300, 0..40), 1..4),
        limits in prop::collection::vec(1i64..320, 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let shards: Vec<Vec<String>> = lengths.iter().map(|list| {
            list.iter().enumerate().map(|(i, n)| char::from(b'a' + (i % 26) as u8).to_string().repeat(*n)).collect()
        }).collect();
        let mut tree = write(folder.path(), "w", &shards);
        let mut expected = in_order(&shards);
        for (step, limit) in limits.into_iter().enumerate() {
            let before = expected.len() as u64;
            expected.retain(|content| (content.len() as i64) < limit);
            let context = context(folder.path(), &step.to_string(), 2);
            let counts = shorter_than(&context, &tree, limit).unwrap();
            prop_assert!(counts.conserves());
            prop_assert_eq!((counts.rows, counts.kept), (before, expected.len() as u64));
            tree = finish(context).remove("documents").unwrap();
            prop_assert_eq!(&contents(&tree), &expected);
        }
    }
}
