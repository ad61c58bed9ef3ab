//! Exports plain files for other programs: all columns joined, one file for each part.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use contract::{Context, InputFile, InputTree, Result, StageError, Unit};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;

use crate::error::TableError;
use crate::format::{EMPTY_PART, ROW, TEXT_GROUP_BYTES, WRITER, rows_options, write_error};
use crate::parallel::each_part;
use crate::rows::{RowsInput, RowsTable};
use crate::table::{Part, Table, footer};

/// The format of exported files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet files: `<part>.parquet`.
    Parquet,
    /// JSON lines, `<part>.jsonl`: one JSON object per line, with all columns; nulls are `null`.
    JsonLines,
}

/// Writes a table of documents (all columns except `row`, but including `content`) or of rows to the directory `destination`, which is
/// created: one file for each part with exactly its rows; for a table without rows, one file `empty` with its columns. Keeps about one row
/// group of text ([`TEXT_GROUP_BYTES`]) in memory. Returns the number of rows.
///
/// # Errors
/// Returns an error if the tree is not a table, or a file cannot be read to its end or written.
pub fn export(tree: &InputTree, destination: &Path, format: Format) -> Result<u64> {
    let plain = Plain::open(tree)?;
    make(destination)?;
    let mut rows = 0;
    for source in &plain.sources {
        rows += plain.write(source, destination, format)?;
    }
    Ok(rows)
}

/// Returns whether a tree contains a table, of documents or of rows, that this program wrote. It depends on the files alone, so that equal
/// trees have equal results, whatever the declared type of the port.
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

/// Writes a table like [`export`], as Parquet, on the threads of a stage.
///
/// # Errors
/// See [`export`]; returns an error if the stage was asked to stop.
pub fn export_parts(context: &Context, tree: &InputTree, destination: &Path) -> Result<()> {
    let plain = Plain::open(tree)?;
    make(destination)?;
    context.progress.start("write the input as Parquet", Unit::Rows, Some(plain.rows));
    each_part(context, &plain.sources, |source| {
        context.progress.add(plain.write(source, destination, Format::Parquet)?);
        Ok(())
    })
    .map(drop)
}

fn make(destination: &Path) -> Result<()> {
    fs::create_dir_all(destination)
        .map_err(|error| StageError::io(format!("create the directory {}", destination.display()), &error))
}

/// A table as plain files.
struct Plain {
    sources: Vec<Source>,
    /// The columns of each file.
    schema: SchemaRef,
    rows: u64,
}

/// The source of a plain file.
enum Source {
    Documents(Part),
    Rows(RowsInput),
    /// The columns, without rows.
    Empty,
}

impl Plain {
    fn open(tree: &InputTree) -> Result<Self> {
        if let Some(table) = RowsTable::open(tree)? {
            let rows = table.rows();
            return Ok(Self {
                sources: table.parts.into_iter().map(Source::Rows).collect(),
                schema: table.schema,
                rows,
            });
        }
        let table = Table::open(tree)?;
        let mut sources: Vec<_> = table.parts().iter().cloned().map(Source::Documents).collect();
        if sources.is_empty() {
            sources.push(Source::Empty);
        }
        let schema = table.schema();
        let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != ROW).cloned().collect();
        Ok(Self { sources, schema: Arc::new(Schema::new(fields)), rows: table.rows() })
    }

    fn write(&self, source: &Source, destination: &Path, format: Format) -> Result<u64> {
        match source {
            Source::Documents(part) => {
                let columns: Vec<_> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
                write(destination, &part.name, format, &self.schema, part.read(&columns)?)
            }
            Source::Rows(part) => write(destination, &part.name, format, &self.schema, part.read()?),
            Source::Empty => write(destination, EMPTY_PART, format, &self.schema, std::iter::empty()),
        }
    }
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
            let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut file);
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
                writer.write(&batch).map_err(write_error)?;
                // At most the text of one row group is in memory.
                if writer.in_progress_size() >= TEXT_GROUP_BYTES {
                    writer.flush().map_err(write_error)?;
                }
            }
            writer.close().map_err(write_error)?;
        }
    }
    file.flush().map_err(failed)?;
    Ok(rows)
}
