//! Tables as programs see them, and as programs write them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use command::Command;
use contract::error::Failure;
use contract::harness::Harness;
use contract::{Context, Digest, InputTree, PortType, Ports, Result, Stage, StageError};
use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, LargeStringArray, NullArray, RecordBatch, StringArray,
    UInt64Array,
};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::prelude::{col, lit, when};
use datafusion::scalar::ScalarValue;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tables::{Document, PART_ROWS, PART_TEXT_BYTES, ShardWriter, TEXT_GROUP_ROWS, Table, document_id};
use tempfile::TempDir;

/// How many documents, and for each the bytes of its text.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Sizes {
    documents: usize,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Nothing {}

fn content(number: usize) -> String {
    format!("text {number}\n").repeat(1 + number % 5)
}

/// A table of documents, and the table without those whose number is odd.
struct Halved;

impl Stage for Halved {
    type Spec = Sizes;
    type Exec = Nothing;
    const KIND: &'static str = "halved";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports::new().output("all", PortType::Documents, "").output("documents", PortType::Documents, "").output(
            "dropped",
            PortType::Rows,
            "",
        )
    }

    fn run(spec: &Sizes, _: &Nothing, context: &Context) -> Result<()> {
        let all = context.outputs.tree("all")?;
        // Two shards, so that parts are read at the same time.
        for shard in 0..2 {
            let mut writer = ShardWriter::new(all, Digest::of(&[shard as u8]));
            for number in (0..spec.documents).filter(|number| number % 3 % 2 == shard) {
                let (path, content) = (format!("{number}.py"), content(number));
                let size = content.len() as i64;
                let license = (number % 7 > 0).then_some("mit");
                writer.push(&Document {
                    repo_name: "a/b",
                    path: &path,
                    copies: 1,
                    size,
                    license,
                    content: &content,
                })?;
            }
            writer.finish()?;
        }
        Ok(())
    }
}

/// Drops the documents whose number is odd.
struct Even;

impl Stage for Even {
    type Spec = Nothing;
    type Exec = Nothing;
    const KIND: &'static str = "even";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports::new().input("documents", PortType::Documents, "").output("documents", PortType::Documents, "").output(
            "dropped",
            PortType::Rows,
            "",
        )
    }

    fn run(_: &Nothing, _: &Nothing, context: &Context) -> Result<()> {
        let table = Table::open(context.inputs.tree("documents")?)?;
        let odd = ["1", "3", "5", "7", "9"].map(|digit| col("path").like(lit(format!("%{digit}.py"))));
        let odd = odd.into_iter().reduce(|one, other| one.or(other)).unwrap();
        let rule = when(odd, lit("odd")).otherwise(lit(ScalarValue::Utf8(None))).unwrap();
        tables::filter(context, &table, |documents| documents.with_column("rule", rule.clone()), |_| Ok(())).map(drop)
    }
}

/// Adds a column `cluster`, as `dedup` does.
struct Grouped;

impl Stage for Grouped {
    type Spec = Nothing;
    type Exec = Nothing;
    const KIND: &'static str = "grouped";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Even::ports()
    }

    fn run(_: &Nothing, _: &Nothing, context: &Context) -> Result<()> {
        let table = Table::open(context.inputs.tree("documents")?)?;
        let plan = |documents: datafusion::dataframe::DataFrame| {
            documents.with_column("rule", lit(ScalarValue::Utf8(None)))?.with_column("cluster", col("path"))
        };
        tables::filter(context, &table, plan, |_| Ok(())).map(drop)
    }
}

/// A harness in a folder of its own.
struct Fixture {
    harness: Harness,
    folder: TempDir,
}

type Outputs = BTreeMap<String, InputTree>;

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { harness: Harness::new(folder.path()), folder }
    }

    /// The kept and the dropped half of a table.
    fn halved(&mut self, documents: usize) -> Outputs {
        let all = self.harness.run::<Halved>(json!({ "documents": documents })).unwrap();
        self.harness.connect("documents", &all["all"]);
        let halves = self.harness.run::<Even>(json!({})).unwrap();
        self.harness.inputs.clear();
        halves
    }

    fn shell(&mut self, script: &str) -> Result<Outputs> {
        self.harness.run::<Command>(json!({ "program": "sh", "arguments": ["-c", script] }))
    }

    /// A Parquet file with these columns.
    fn parquet(&self, name: &str, columns: &[(&str, ArrayRef)]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let columns = columns.iter().map(|(_, column)| column.clone()).collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    /// A stage whose output `out`, of this type, is these files.
    fn taken(&mut self, ty: &str, files: &[PathBuf]) -> Result<InputTree> {
        let settings = json!({
            "program": "cp", "outputs": { "out": ty }, "files": files,
            "arguments": files.iter().map(|file| format!("{{source:{}}}", file.file_name().unwrap().to_str().unwrap()))
                .chain(["{output}".to_owned()]).collect::<Vec<_>>(),
        });
        self.harness.run::<Command>(settings).map(|mut outputs| outputs.remove("out").unwrap())
    }

    fn failure(&mut self, ty: &str, files: &[PathBuf]) -> Failure {
        match self.taken(ty, files) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }
}

fn strings<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// The rows of Parquet files as JSON, sorted by path.
fn rows(files: impl IntoIterator<Item = PathBuf>) -> Vec<Value> {
    let mut rows = Vec::new();
    for file in files {
        for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap().build().unwrap() {
            let mut lines = Vec::new();
            let mut writer = datafusion::arrow::json::LineDelimitedWriter::new(&mut lines);
            writer.write(&batch.unwrap()).unwrap();
            writer.finish().unwrap();
            rows.extend(String::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()));
        }
    }
    rows.sort_by_key(|row: &Value| row["path"].as_str().unwrap_or_default().to_owned());
    rows
}

fn files(tree: &InputTree) -> Vec<PathBuf> {
    tree.files.iter().map(|file| file.location.clone()).collect()
}

/// The documents of a table with all columns, in the order of the table.
fn documents(tree: &InputTree) -> Vec<RecordBatch> {
    let table = Table::open(tree).unwrap();
    table.parts().iter().flat_map(|part| part.documents().unwrap().map(Result::unwrap)).collect()
}

fn column<'b>(batches: &'b [RecordBatch], name: &'b str) -> impl Iterator<Item = Option<&'b str>> {
    batches.iter().flat_map(move |batch| batch.column_by_name(name).unwrap().as_string::<i32>().iter())
}

#[test]
fn a_program_is_given_the_kept_rows_of_a_table_with_their_text_and_nothing_else() {
    for documents in [1, 2, 3, 700, 2 * TEXT_GROUP_ROWS + 1] {
        let mut fixture = Fixture::new();
        let halves = fixture.halved(documents);
        fixture.harness.connect("documents", &halves["documents"]).connect("dropped", &halves["dropped"]);
        let script = "mkdir out/files/kept out/files/dropped && cp in/documents/*.parquet out/files/kept && \
                      (cp in/dropped/*.parquet out/files/dropped || true) && find in -type f > out/files/list";
        let seen = fixture.shell(script).unwrap().remove("files").unwrap();
        let below = |folder| seen.below(folder).map(|file| file.location.clone()).collect::<Vec<_>>();
        let mut expected: Vec<_> = (0..documents).map(|number| (format!("{number}.py"), number)).collect();
        expected.sort();
        let row = |(path, number): &(String, usize)| {
            let content = content(*number);
            let mut row = json!({
                "id": document_id("a/b", path, &content).to_string(), "repo_name": "a/b", "path": path, "copies": 1,
                "size": content.len(), "content": content,
            });
            if number % 7 > 0 {
                row["license"] = "mit".into();
            }
            row
        };
        let kept: Vec<_> = expected.iter().filter(|(_, number)| number % 2 == 0).map(row).collect();
        assert_eq!(rows(below("kept")), kept, "{documents} documents");
        let dropped: Vec<_> = expected.iter().filter(|(_, number)| number % 2 == 1).map(|(path, _)| path).collect();
        let found = rows(below("dropped"));
        assert_eq!(found.iter().map(|row| row["path"].as_str().unwrap()).collect::<Vec<_>>(), dropped);
        let list = fs::read_to_string(&seen.required("list").unwrap().location).unwrap();
        assert!(list.lines().all(|line| line.ends_with(".parquet") && line.matches('/').count() == 2), "{list}");
    }
}

#[test]
fn a_table_is_written_for_programs_once_and_with_equal_bytes_for_any_number_of_threads() {
    let seen = |threads| {
        let mut fixture = Fixture::new();
        fixture.harness.resources.threads = threads;
        let halves = fixture.halved(5000);
        fixture.harness.connect("input", &halves["documents"]).connect("again", &halves["documents"]);
        let script = "cp in/input/* out/files && ls -i in/input | cut -d. -f1 > out/files/inodes";
        let first = fixture.shell(script).unwrap().remove("files").unwrap();
        let second = fixture.shell(script).unwrap().remove("files").unwrap();
        assert_eq!(first.digest, second.digest, "the same inodes: they are links to the same files");
        assert_eq!(fixture.harness.derived.entries().len(), 1);
        let tables = first.files.iter().filter(|file| file.path.as_str().ends_with(".parquet"));
        tables.map(|file| (file.path.to_string(), file.digest)).collect::<Vec<_>>()
    };
    let (one, four) = (seen(1), seen(4));
    assert_eq!(one.len(), 2);
    assert_eq!(one, four);
}

#[test]
fn a_program_that_writes_to_a_table_is_an_error_and_the_next_one_is_given_it_whole() {
    let mut fixture = Fixture::new();
    let halves = fixture.halved(50);
    fixture.harness.connect("input", &halves["documents"]);
    let spoil = "for file in in/input/*; do chmod u+w $file; echo more >> $file; done; touch out/files/x";
    let Err(StageError::Failed(failure)) = fixture.shell(spoil) else { panic!() };
    assert!(failure.message.starts_with("the program changed its input '"), "{}", failure.message);
    let seen = fixture.shell("cp in/input/* out/files").unwrap();
    assert_eq!(rows(files(&seen["files"])).len(), 25);
    let replaced = "for file in in/input/*; do rm $file; echo mine > $file; done; touch out/files/x";
    assert!(fixture.shell(replaced).is_ok(), "what it has in its own directory is its own");
    assert_eq!(rows(files(&fixture.shell("cp in/input/* out/files").unwrap()["files"])).len(), 25);
}

#[test]
fn a_table_that_gc_removes_meanwhile_stays_until_the_program_ends() {
    let mut fixture = Fixture::new();
    let halves = fixture.halved(50);
    fixture.harness.connect("input", &halves["documents"]);
    fixture.shell("touch out/files/x").unwrap();
    let derived = fixture.harness.derived.clone();
    derived.entries().iter().for_each(|entry| assert!(derived.remove(&entry.name).unwrap()));
    let folder = fixture.folder.path().join("derived").display().to_string();
    let seen = fixture.shell(&format!("rm -rf '{folder}'; cp in/input/* out/files")).unwrap();
    assert_eq!(rows(files(&seen["files"])).len(), 25);
}

#[test]
fn files_that_are_no_table_are_given_as_they_are() {
    let mut fixture = Fixture::new();
    fixture.parquet("rows/a.parquet", &[("x", strings(["1"]))]);
    let folder = fixture.folder.path().display().to_string();
    let tree = fixture.shell(&format!("cp -r {folder}/rows out/files")).unwrap().remove("files").unwrap();
    fixture.harness.connect("input", &tree);
    let seen = fixture.shell("find in -type l > out/files/list").unwrap();
    let list = fs::read_to_string(&seen["files"].required("list").unwrap().location).unwrap();
    assert_eq!(list, "in/input/rows/a.parquet\n");
}

#[test]
fn a_flat_parquet_file_with_content_is_a_table_of_documents() {
    let mut fixture = Fixture::new();
    let file = fixture.parquet("a.parquet", &[("content", strings(["one", "", "drei"]))]);
    let tree = fixture.taken("documents", &[file]).unwrap();
    let found = documents(&tree);
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    let row = |number: usize| {
        let text = |name| column(&found, name).nth(number).unwrap().map(str::to_owned);
        let number = |name: &str| {
            found[0]
                .column_by_name(name)
                .unwrap()
                .as_primitive::<datafusion::arrow::datatypes::Int64Type>()
                .value(number)
        };
        (text("repo_name"), text("path"), text("license"), number("copies"), number("size"), text("id"))
    };
    for (number, content) in ["one", "", "drei"].into_iter().enumerate() {
        let place = format!("a.parquet#{number}");
        let id = document_id(&place, &place, content).to_string();
        assert_eq!(row(number), (Some(place.clone()), Some(place), None, 1, content.len() as i64, Some(id)));
    }
    assert_eq!(column(&found, "content").flatten().collect::<Vec<_>>(), ["one", "", "drei"]);
}

#[test]
fn columns_of_the_format_are_taken_and_further_ones_are_kept() {
    let mut fixture = Fixture::new();
    let large: ArrayRef = Arc::new(LargeStringArray::from_iter_values(["x", "y"]));
    let table = |score: [f64; 2]| -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("score", Arc::new(Float64Array::from(score.to_vec()))),
            ("content", large.clone()),
            ("license", Arc::new(StringArray::from(vec![Some("mit"), None]))),
            ("path", strings(["a.py", "b.py"])),
            ("repo_name", strings(["a/b", "c/d"])),
            ("copies", Arc::new(Int32Array::from(vec![3, 4]))),
            ("size", Arc::new(UInt64Array::from(vec![5, 6]))),
            ("note", Arc::new(NullArray::new(2))),
        ]
    };
    let mut other = table([0.5, 0.75]);
    other.reverse();
    let files = [fixture.parquet("one.parquet", &table([0.125, 0.25])), fixture.parquet("two.parquet", &other)];
    let tree = fixture.taken("documents", &files).unwrap();
    let found = documents(&tree);
    let names: Vec<_> = found[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "repo_name", "path", "copies", "size", "license", "score", "note", "row", "content"]);
    let flat = fixture.folder.path().join("flat");
    tables::export(&tree, &flat, tables::Format::Parquet).unwrap();
    let mut seen = rows(fs::read_dir(&flat).unwrap().map(|entry| entry.unwrap().path()));
    seen.sort_by_key(|row| row["score"].as_f64().unwrap().to_bits());
    let row = |score: f64, number: usize| {
        let (repo, path, content) = [("a/b", "a.py", "x"), ("c/d", "b.py", "y")][number];
        let id = document_id(repo, path, content).to_string();
        let mut row = json!({
            "id": id, "repo_name": repo, "path": path, "copies": 3 + number, "size": 5 + number, "content": content,
            "score": score,
        });
        if number == 0 {
            row["license"] = "mit".into();
        }
        row
    };
    assert_eq!(seen, [row(0.125, 0), row(0.25, 1), row(0.5, 0), row(0.75, 1)]);
    // What programs are given can be given back.
    let exported: Vec<_> = fs::read_dir(&flat).unwrap().map(|entry| entry.unwrap().path()).collect();
    let again = fixture.taken("documents", &exported).unwrap();
    assert_eq!(documents(&again).iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    assert!(fixture.harness.progress.drain().is_empty(), "no id was computed again");
}

#[test]
fn an_id_that_is_not_that_of_its_text_is_computed_again() {
    let mut fixture = Fixture::new();
    let right = document_id("r", "p", "text").to_string();
    let columns = |ids: ArrayRef| {
        [
            ("id", ids),
            ("repo_name", strings(["r", "r"])),
            ("path", strings(["p", "p"])),
            ("content", strings(["text", "text"])),
        ]
    };
    let one = fixture.parquet("one.parquet", &columns(strings([right.as_str(), "wrong"])));
    let tree = fixture.taken("documents", &[one]).unwrap();
    assert!(column(&documents(&tree), "id").all(|id| id == Some(right.as_str())));
    let warned = serde_json::to_string(&fixture.harness.progress.drain()).unwrap();
    assert!(warned.contains("1 id was not that of its repository, path and text"), "{warned}");
    let two = fixture.parquet("two.parquet", &columns(Arc::new(Int64Array::from(vec![1, 2]))));
    fixture.taken("documents", &[two]).unwrap();
    let warned = serde_json::to_string(&fixture.harness.progress.drain()).unwrap();
    assert!(warned.contains("2 ids were not those of their"), "{warned}");
}

#[test]
fn documents_of_any_number_are_all_kept() {
    for count in [
        0,
        1,
        63,
        64,
        65,
        TEXT_GROUP_ROWS - 1,
        TEXT_GROUP_ROWS,
        TEXT_GROUP_ROWS + 1,
        PART_ROWS - 1,
        PART_ROWS,
        PART_ROWS + 1,
    ] {
        let mut fixture = Fixture::new();
        let texts = (0..count).map(|number| number.to_string());
        let file = fixture.parquet(
            "a.parquet",
            &[("content", strings(texts)), ("number", Arc::new(Int64Array::from_iter_values(0..count as i64)))],
        );
        let tree = fixture.taken("documents", &[file]).unwrap();
        assert_eq!(Table::open(&tree).unwrap().parts().len(), count.div_ceil(PART_ROWS), "{count}");
        let mut next = 0;
        for batch in documents(&tree) {
            let numbers = batch
                .column_by_name("number")
                .unwrap()
                .as_primitive::<datafusion::arrow::datatypes::Int64Type>()
                .clone();
            for (content, number) in
                batch.column_by_name("content").unwrap().as_string::<i32>().iter().zip(numbers.iter())
            {
                assert_eq!((content, number), (Some(next.to_string().as_str()), Some(next)), "of {count}");
                next += 1;
            }
        }
        assert_eq!(next, count as i64);
    }
}

#[test]
fn more_text_than_a_part_takes_makes_several_parts() {
    let text = "x".repeat(1 << 20);
    let parts = PART_TEXT_BYTES >> 20;
    for (count, expected) in [(parts - 1, 1), (parts, 1), (parts + 1, 2)] {
        let mut fixture = Fixture::new();
        let file = fixture.parquet("a.parquet", &[("content", strings((0..count).map(|_| &text)))]);
        let tree = fixture.taken("documents", &[file]).unwrap();
        let table = Table::open(&tree).unwrap();
        assert_eq!((table.rows(), table.parts().len()), (count as u64, expected));
        assert_eq!(documents(&tree).iter().map(RecordBatch::num_rows).sum::<usize>(), count);
    }
}

#[test]
fn near_duplicate_groups_of_an_input_stay_with_their_documents() {
    let mut fixture = Fixture::new();
    let halves = fixture.halved(9);
    fixture.harness.connect("documents", &halves["documents"]);
    let grouped = fixture.harness.run::<Grouped>(json!({})).unwrap().remove("documents").unwrap();
    fixture.harness.connect("documents", &grouped);
    let settings = json!({
        "program": "sh", "outputs": { "out": "documents" }, "arguments": ["-c", "cp in/documents/*.parquet out/out"],
    });
    let tree = fixture.harness.run::<Command>(settings).unwrap().remove("out").unwrap();
    let batches = documents(&tree);
    assert_eq!(column(&batches, "cluster").count(), 5);
    assert!(column(&batches, "cluster").eq(column(&batches, "path")));
}

#[test]
fn texts_of_a_batch_may_have_more_than_2_gib() {
    let mut fixture = Fixture::new();
    let (count, bytes) = (33, 65 << 20);
    let path = fixture.folder.path().join("large.parquet");
    let text = strings(["x".repeat(bytes)]);
    let batch = RecordBatch::try_from_iter([("content", text)]).unwrap();
    // One text in a dictionary, so that by the file's size the rows are small.
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .set_dictionary_page_size_limit(1 << 30);
    let file = File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    (0..count).for_each(|_| writer.write(&batch).unwrap());
    writer.close().unwrap();
    let table = Table::open(&fixture.taken("documents", std::slice::from_ref(&path)).unwrap()).unwrap();
    assert_eq!((table.rows(), table.parts().len()), (count, count as usize));
    let tree = fixture.taken("rows", &[path]).unwrap();
    let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(&files(&tree)[0]).unwrap()).unwrap();
    assert_eq!(rows.metadata().file_metadata().num_rows(), count as i64);
}

#[test]
fn an_output_that_is_not_a_table_is_an_error_that_names_the_file_and_the_column() {
    let mut fixture = Fixture::new();
    let text = |name| (name, strings(["x"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let missing: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let too_large: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
    let words = fixture.folder.path().join("words.txt");
    fs::write(&words, "words").unwrap();
    let good = fixture.parquet("good.parquet", &[text("content")]);
    let cases = [
        (
            vec![fixture.parquet("1.parquet", &[text("text"), ("n", numbers.clone())])],
            "file '1.parquet' has no column 'content' of type string",
            "it has text (Utf8), n (Int64)",
        ),
        (
            vec![fixture.parquet("2.parquet", &[("content", numbers.clone())])],
            "file '2.parquet' has no column 'content' of type string",
            "it has content (Int64)",
        ),
        (
            vec![fixture.parquet("3.parquet", &[text("content"), text("copies")])],
            "file '3.parquet' has no column 'copies' of type integer",
            "it has content",
        ),
        (
            vec![fixture.parquet("4.parquet", &[text("content"), ("repo_name", numbers.clone())])],
            "file '4.parquet' has no column 'repo_name' of type string",
            "",
        ),
        (
            vec![fixture.parquet("5.parquet", &[text("content"), ("row", numbers.clone())])],
            "file '5.parquet' has a column 'row'",
            "rename the column",
        ),
        (
            vec![fixture.parquet("jaccard.parquet", &[text("content"), text("jaccard")])],
            "file 'jaccard.parquet' has a column 'jaccard'",
            "rename the column",
        ),
        (
            vec![fixture.parquet("cluster.parquet", &[text("content"), text("cluster")])],
            "file 'cluster.parquet' has a column 'cluster'",
            "rename the column",
        ),
        (
            vec![fixture.parquet("_x.parquet", &[text("content"), text("_x")])],
            "file '_x.parquet' has a column '_x'",
            "rename the column",
        ),
        (vec![fixture.parquet("6.parquet", &[("content", missing)])], "file '6.parquet' has no 'content' in row 0", ""),
        (
            vec![fixture.parquet("7.parquet", &[text("content"), ("size", too_large)])],
            "file '7.parquet' cannot be read: ",
            "",
        ),
        (
            vec![fixture.parquet("twice.parquet", &[text("content"), text("content")])],
            "column 'content' occurs twice in file 'twice.parquet'",
            "rename or remove one",
        ),
        (
            vec![fixture.parquet("copies.parquet", &[text("content"), ("copies", negative.clone())])],
            "column 'copies' is -1 in row 0 of file 'copies.parquet', expected 0 or more",
            "",
        ),
        (
            vec![fixture.parquet("size.parquet", &[text("content"), ("size", negative)])],
            "column 'size' is -1 in row 0 of file 'size.parquet', expected 0 or more",
            "",
        ),
        (vec![words.clone()], "file 'words.txt' is not a Parquet file", ""),
        (
            vec![fixture.parquet("a.parquet", &[text("content"), text("x")]), good.clone()],
            "file 'good.parquet' has no column 'x', which file 'a.parquet' has",
            "",
        ),
        (
            vec![good.clone(), fixture.parquet("h.parquet", &[text("content"), text("x")])],
            "file 'good.parquet' has no column 'x', which file 'h.parquet' has",
            "",
        ),
    ];
    for (files, message, hint) in cases {
        let failure = fixture.failure("documents", &files);
        let expected = format!("output 'out' does not contain documents: {message}");
        assert!(failure.message.starts_with(&expected), "{} / {expected}", failure.message);
        assert!(failure.hint.unwrap_or_default().contains(hint), "{message}");
    }
    let other = fixture.parquet("other.parquet", &[("content", numbers)]);
    let failure = fixture.failure("rows", &[good.clone(), other]);
    assert_eq!(
        failure.message,
        "output 'out' does not contain rows: column 'content' is Int64 in file 'other.parquet' and Utf8 in file 'good.parquet'"
    );
    let twice = fixture.parquet("twice.parquet", &[text("n"), text("x"), text("x")]);
    let failure = fixture.failure("rows", &[twice]).message;
    assert!(failure.ends_with("column 'x' occurs twice in file 'twice.parquet'"), "{failure}");
    assert!(fixture.failure("rows", &[words]).message.contains("file 'words.txt' is not a Parquet file"));
    // A file that is cut in half has a footer no more.
    let bytes = fs::read(&good).unwrap();
    fs::write(&good, &bytes[..bytes.len() / 2]).unwrap();
    assert!(fixture.failure("documents", &[good]).message.contains("is not a Parquet file"));
}

#[test]
fn rows_keep_their_columns_and_are_given_to_programs_as_they_were() {
    for count in [1, 63, 64, 65, 9000] {
        let mut fixture = Fixture::new();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        let names = strings((0..count).map(|number| format!("{number:05}")));
        let file = fixture.parquet("deep.parquet", &[("n", numbers), ("path", names)]);
        let tree = fixture.taken("rows", &[file]).unwrap();
        assert!(tree.files.iter().all(|file| file.path.as_str().starts_with("rows/")));
        fixture.harness.connect("input", &tree);
        let seen = fixture.shell("cp in/input/*.parquet out/files").unwrap();
        let expected: Vec<_> =
            (0..count).map(|number| json!({ "n": number, "path": format!("{number:05}") })).collect();
        assert_eq!(rows(files(&seen["files"])), expected);
    }
}

/// A file of these bytes.
fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn other_outputs_are_held_against_their_type() {
    let mut fixture = Fixture::new();
    let folder = fixture.folder.path().to_owned();
    let tensors = |bytes: usize| {
        let header = json!({ "__metadata__": { "format": "pt" }, "a": { "dtype": "F32", "shape": [2], "data_offsets": [0, 8] } });
        let header = header.to_string();
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
    };
    let file = |name: &str, bytes: &[u8]| written(&folder, name, bytes);
    let config = file("config.json", b"{\"n_layer\": 1}");
    let packed = tokens::packed::Header {
        vocabulary: 9,
        end_of_text: 1,
        sequence_length: 2,
        sequences: 1,
        documents: 1,
        text_bytes: 3,
    };
    let mut tokens = tokens::packed::PackedWriter::new(Vec::new(), packed).unwrap();
    tokens.push(&[2, 1]).unwrap();
    let tokens = tokens.finish().unwrap();
    let mut run = |ty: &str, files: &[(&str, &[u8])], config: Option<&PathBuf>| {
        let mut paths: Vec<_> = files.iter().map(|(name, bytes)| file(name, bytes)).collect();
        paths.extend(config.cloned());
        match fixture.taken(ty, &paths) {
            Ok(tree) => Ok(tree.files.len()),
            Err(StageError::Failed(failure)) => Err(failure.message),
            Err(error) => panic!("{error}"),
        }
    };
    let mut wrong = |ty: &str, files: &[(&str, &[u8])], config: Option<&PathBuf>, message: &str| {
        let found = run(ty, files, config).unwrap_err();
        assert!(found.starts_with("output 'out' does not contain ") && found.contains(message), "{found} / {message}");
    };
    wrong("tokenizer", &[("vocab.json", b"{}")], None, "it has no file 'tokenizer.json'");
    wrong("tokenizer", &[("tokenizer.json", b"{")], None, "file 'tokenizer.json' is not valid JSON: EOF");
    wrong("tokenizer", &[("tokenizer.json", b"{\"model\": 1}")], None, "file 'tokenizer.json' has no object 'model'");
    wrong("tokens", &[("ids.bin", b"")], None, "it has no file 'tokens.bin'");
    wrong("tokens", &[("tokens.bin", b"words")], None, "it ends inside its header");
    wrong("tokens", &[("tokens.bin", &tokens[..tokens.len() - 1])], None, "it has 67 bytes, but its header says 68");
    wrong("model", &[("model.safetensors", &tensors(8))], None, "it has no file 'config.json'");
    wrong("model", &[], Some(&config), "it has no file 'model.safetensors'");
    wrong("model", &[("model.safetensors", b"words")], Some(&config), "it ends inside its header");
    wrong(
        "model",
        &[("model.safetensors", &tensors(7))],
        Some(&config),
        "it has 7 bytes of tensors, but its header says 8",
    );
    wrong("report", &[("counts.json", b"{\"loss\": NaN}")], None, "file 'counts.json' is not valid JSON");
    assert_eq!(run("tokenizer", &[("tokenizer.json", b"{\"model\": {}}")], None), Ok(1));
    assert_eq!(run("tokens", &[("tokens.bin", &tokens)], None), Ok(1));
    assert_eq!(run("model", &[("model.safetensors", &tensors(8))], Some(&config)), Ok(2));
    assert_eq!(run("report", &[("counts.json", b"[1]"), ("notes.txt", b"{")], None), Ok(2));
}

#[test]
fn tables_are_links_to_one_file() {
    let mut fixture = Fixture::new();
    let halves = fixture.halved(50);
    fixture.harness.connect("input", &halves["documents"]);
    fixture.harness.scratch = Some(fixture.folder.path().join("scratch"));
    fixture.shell("touch out/files/x").unwrap();
    let file = fs::read_dir(fixture.folder.path().join("scratch/work/in/input")).unwrap().next().unwrap().unwrap();
    let metadata = file.metadata().unwrap();
    assert!(metadata.is_file() && metadata.nlink() == 2 && metadata.permissions().readonly());
}
