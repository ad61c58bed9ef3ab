//! Plain files for other programs: all columns joined, a file a part.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use contract::{Context, InputFile, InputTree, Result, StageError, Unit};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json::LineDelimitedWriter;
use parquet::arrow::ArrowWriter;

use crate::error::TableError;
use crate::format::{ROW, WRITER, rows_options, write_error};
use crate::parallel::each_part;
use crate::rows::read_rows;
use crate::table::{Table, footer};

/// The form of exported files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<part>.parquet`.
    Parquet,
    /// `<part>.jsonl`: one JSON object a line, without columns that are null.
    JsonLines,
}

/// Writes a table of documents (all columns but `row`, `content` among them) or of rows into the folder `destination`,
/// which is made. The number of rows.
///
/// # Errors
/// When the tree is no table, or a file cannot be read or written.
pub fn export(tree: &InputTree, destination: &Path, format: Format) -> Result<u64> {
    fs::create_dir_all(destination)
        .map_err(|error| StageError::io(format!("make the folder {}", destination.display()), &error))?;
    if !tree.files.is_empty() && tree.files.iter().all(|file| file.path.as_str().starts_with("rows/")) {
        let mut rows = 0;
        for file in &tree.files {
            let name = file.path.as_str().trim_start_matches("rows/").trim_end_matches(".parquet").to_owned();
            let part = InputTree { digest: tree.digest, files: vec![file.clone()] };
            rows += write(destination, &name, format, footer(file)?.schema(), read_rows(&part)?)?;
        }
        return Ok(rows);
    }
    let table = Table::open(tree)?;
    let schema = table.schema();
    let columns: Vec<_> =
        schema.fields().iter().map(|field| field.name().as_str()).filter(|name| *name != ROW).collect();
    let mut rows = 0;
    for part in table.parts() {
        let documents = part.read(&columns)?;
        let schema = documents.schema().clone();
        rows += write(destination, &part.name, format, &schema, documents)?;
    }
    Ok(rows)
}

/// Whether a tree holds a table that this program wrote, of documents or of rows: told from its files alone, so that equal
/// trees have equal answers, whatever the port is declared to hold.
pub fn is_table(tree: &InputTree) -> bool {
    let is_rows = |file: &&InputFile| file.path.as_str().starts_with("rows/");
    let is_ours = |file: &InputFile| {
        let created_by = footer(file)
            .ok()
            .and_then(|footer| footer.metadata().file_metadata().created_by().map(|writer| writer == WRITER));
        created_by == Some(true)
    };
    let mut rows = tree.files.iter().filter(is_rows).peekable();
    rows.peek().is_some()
        && rows.all(is_ours)
        && (tree.files.iter().all(|file| is_rows(&file)) || Table::open(tree).is_ok())
}

/// Writes a table as [`export`] does, as Parquet, on the threads of a stage.
///
/// # Errors
/// As [`export`], and when the stage was asked to stop.
pub fn export_parts(context: &Context, tree: &InputTree, destination: &Path) -> Result<()> {
    if tree.files.iter().all(|file| file.path.as_str().starts_with("rows/")) {
        return each_part(context, &tree.files, |file| {
            let part = InputTree { digest: tree.digest, files: vec![file.clone()] };
            export(&part, destination, Format::Parquet)
        })
        .map(drop);
    }
    let table = Table::open(tree)?;
    context.progress.start("write the input as Parquet", Unit::Rows, Some(table.rows()));
    each_part(context, table.parts(), |part| {
        let part = InputTree { digest: tree.digest, files: vec![part.rows.clone(), part.text.clone()] };
        context.progress.add(export(&part, destination, Format::Parquet)?);
        Ok(())
    })
    .map(drop)
}

fn write(
    destination: &Path,
    name: &str,
    format: Format,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, TableError>>,
) -> Result<u64> {
    let path = destination.join(match format {
        Format::Parquet => format!("{name}.parquet"),
        Format::JsonLines => format!("{name}.jsonl"),
    });
    let failed = |error| StageError::io(format!("write {}", path.display()), &error);
    let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
    let mut rows = 0;
    match format {
        Format::JsonLines => {
            let mut writer = LineDelimitedWriter::new(&mut file);
            for batch in batches {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                writer.write(&batch).map_err(|error| write_error(error.into()))?;
            }
            writer.finish().map_err(|error| write_error(error.into()))?;
        }
        Format::Parquet => {
            let writer = ArrowWriter::try_new_with_options(&mut file, schema.clone(), rows_options()?);
            let mut writer = writer.map_err(write_error)?;
            for batch in batches {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                // A row group a batch: the text of one batch is all that is held.
                writer.write(&batch).and_then(|()| writer.flush()).map_err(write_error)?;
            }
            writer.close().map_err(write_error)?;
        }
    }
    file.flush().map_err(failed)?;
    Ok(rows)
}
