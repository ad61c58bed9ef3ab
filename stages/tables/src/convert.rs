//! Converts plain Parquet files of another program to a table.
//!
//! # Documents
//! Every file needs a column `content`; the other columns of the format may be missing or null:
//!
//! | column | type | if it is missing or null |
//! |---|---|---|
//! | `content` | string | an error |
//! | `repo_name`, `path` | string | `<file>#<row>`: the file's path in the output and the row in the file, from 0; so each document without a repository counts as a separate repository in a split by repository |
//! | `copies` | integer, not negative | 1 |
//! | `size` | integer, not negative | bytes of `content` |
//! | `license` | string | null |
//! | `id` | | always computed ([`document_id`]), because repository, path or text may have changed |
//! | `row` | | reserved for the format: an error |
//! | `rule`, `detail`, `cluster`, `witness`, `jaccard`, `_...` | | reserved for stages, which would replace them: an error, except that a `cluster` from an input is kept unchanged |
//!
//! Further columns are kept; duplicate column names are an error. All files must have the same columns, in any order;
//! columns of the format may be missing in some files. Each file is a shard ([`ShardWriter`]), written as several parts
//! if it is larger than a part.
//!
//! # Rows
//! Any columns are allowed, with unique names, the same in all files, in any order. Each file is a part.
//!
//! Files without rows become a table with their columns and no rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use contract::figures::counted;
use contract::{Context, Digest, OutputTree, PortType, Result, StageError, Unit};
use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};

use crate::format::{
    CLUSTER, CONTENT, COPIES, ID, LICENSE, PATH, REPO_NAME, SIZE, document_id, is_reserved, part_name, rows_schema,
};
use crate::parallel::each_part;
use crate::plain::{PlainBatches, PlainReader};
use crate::rows::{RowsFile, close};
use crate::table::Table;
use crate::writer::{Document, ShardWriter, documents_schema};

const SHARD_DOMAIN: &str = "pipeline 2026 plain file v1";

/// A Parquet file that another program wrote.
#[derive(Debug, Clone)]
pub struct PlainFile {
    /// The path in the output.
    pub name: String,
    /// The location on disk.
    pub location: PathBuf,
}

/// Writes the documents of plain files as a table (module docs). Returns their number.
///
/// # Errors
/// Returns an error if a file does not contain documents (the error names the file, the column and the expected type)
/// or cannot be read, the table cannot be written, or the stage was asked to stop.
pub fn documents_from(context: &Context, files: &[PlainFile], output: &OutputTree) -> Result<u64> {
    let files = open(files)?;
    // Near-duplicate clusters that `dedup` found are kept with their documents, for `split`.
    let has_clusters =
        context.inputs.iter().any(|(_, tree)| Table::open(tree).is_ok_and(|table| table.has_column(CLUSTER)));
    let own = |name: &str| name == CONTENT || rows_schema().column_with_name(name).is_some();
    for file in &files {
        file.expect(CONTENT, Kind::Text)?.ok_or_else(|| file.missing(CONTENT, Kind::Text))?;
        for (name, kind) in [
            (REPO_NAME, Kind::Text),
            (PATH, Kind::Text),
            (LICENSE, Kind::Text),
            (COPIES, Kind::Integer),
            (SIZE, Kind::Integer),
        ] {
            file.expect(name, kind)?;
        }
        let names = file.schema().fields().iter().map(|field| field.name().as_str());
        if let Some(name) = names.filter(|name| is_reserved(name)).find(|name| *name != CLUSTER || !has_clusters) {
            return Err(StageError::new(format!("file '{}' has a column '{name}'", file.name))
                .hint(format!("'{name}' is reserved for tables and stages: remove or rename the column")));
        }
        if has_clusters {
            file.expect(CLUSTER, Kind::Text)?;
        }
    }
    let further = same_columns(&files, |name| !own(name))?;
    context.progress.start("take documents", Unit::Rows, Some(files.iter().map(|file| file.rows()).sum()));
    let counts = each_part(context, &files, |file| file.documents(context, &further, output))?;
    let renamed: u64 = counts.iter().map(|(_, renamed)| renamed).sum();
    if renamed > 0 {
        let what = if renamed == 1 { "was not that of its" } else { "were not those of their" };
        context.progress.warn(format!("{} {what} repository, path and text, and computed again", counted(renamed, ID)));
    }
    close(output, &documents_schema(&further), PortType::Documents)?;
    Ok(counts.iter().map(|(documents, _)| documents).sum())
}

/// Writes plain files as a table of rows (module docs). Returns the number of rows.
///
/// # Errors
/// Returns an error if a file is not Parquet, has different columns from the first, or cannot be read, the table cannot
/// be written, or the stage was asked to stop.
pub fn rows_from(context: &Context, files: &[PlainFile], output: &OutputTree) -> Result<u64> {
    let files = open(files)?;
    let fields = same_columns(&files, |_| true)?;
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    context.progress.start("take rows", Unit::Rows, Some(files.iter().map(|file| file.rows()).sum()));
    let rows = each_part(context, &files, |file| {
        let mut part = RowsFile::new(output, &part_name(file.shard()?, 0), schema.clone());
        for batch in file.read()? {
            context.cancel.check()?;
            let batch = batch.map_err(|error| file.damaged(error))?;
            context.progress.add(batch.num_rows() as u64);
            part.write(&file.values(&batch, &schema)?)?;
        }
        part.finish()
    })?;
    // Without files there are no columns either.
    if !files.is_empty() {
        close(output, &schema, PortType::Rows)?;
    }
    Ok(rows.iter().sum())
}

/// The type that a column of the format must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
}

impl Kind {
    fn holds(self, ty: &DataType) -> bool {
        match self {
            Self::Text => matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
            Self::Integer => ty.is_integer(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Integer => "integer",
        }
    }
}

/// A plain file with its columns.
struct Opened<'f> {
    name: &'f str,
    location: &'f PathBuf,
    reader: PlainReader,
}

fn open(files: &[PlainFile]) -> Result<Vec<Opened<'_>>> {
    files.iter().map(Opened::new).collect()
}

/// Returns the columns that `counts` accepts, all nullable, in the order of the first file.
///
/// # Errors
/// Returns an error if a file has different columns.
fn same_columns(files: &[Opened<'_>], counts: impl Fn(&str) -> bool) -> Result<Vec<FieldRef>> {
    let columns = |file: &Opened<'_>| -> Vec<FieldRef> {
        let counted = file.schema().fields().iter().filter(|field| counts(field.name()));
        // A column that contains only nulls may have no specific type.
        counted.map(|field| Arc::new(Field::new(field.name(), plain_type(field.data_type()), true))).collect()
    };
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let expected = columns(first);
    for file in files {
        let found = Fields::from(columns(file));
        for field in &expected {
            match found.find(field.name()) {
                Some((_, other)) if other.data_type() == field.data_type() => {}
                _ => return Err(file.differs(field, first.name)),
            }
        }
        if let Some(more) = found.iter().find(|other| !expected.iter().any(|field| field.name() == other.name())) {
            return Err(first.differs(more, file.name));
        }
    }
    Ok(expected)
}

/// Returns the type with which a column is written.
fn plain_type(ty: &DataType) -> DataType {
    if *ty == DataType::Null { DataType::Utf8 } else { ty.clone() }
}

impl<'f> Opened<'f> {
    fn new(file: &'f PlainFile) -> Result<Self> {
        let PlainFile { name, location } = file;
        let reader = PlainReader::open(&File::open(location)?).map_err(|error| {
            StageError::new(format!("file '{name}' is not a Parquet file: {error}"))
                .hint("a table is written as Parquet files, and nothing else")
        })?;
        let mut names = BTreeSet::new();
        if let Some(twice) = reader.schema().fields().iter().find(|field| !names.insert(field.name())) {
            return Err(StageError::new(format!("column '{}' occurs twice in file '{name}'", twice.name()))
                .hint("columns are identified by name: rename or remove one of them"));
        }
        Ok(Self { name, location, reader })
    }

    fn schema(&self) -> &SchemaRef {
        self.reader.schema()
    }

    fn rows(&self) -> u64 {
        self.reader.rows()
    }

    /// Returns the column if it exists and is not all null.
    fn expect(&self, name: &str, kind: Kind) -> Result<Option<()>> {
        match self.schema().field_with_name(name) {
            Ok(field) if kind.holds(field.data_type()) => Ok(Some(())),
            Ok(field) if *field.data_type() == DataType::Null => Ok(None),
            Ok(_) => Err(self.missing(name, kind)),
            Err(_) => Ok(None),
        }
    }

    fn missing(&self, name: &str, kind: Kind) -> StageError {
        let columns = self.schema().fields().iter().map(|field| format!("{} ({})", field.name(), field.data_type()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let found = if columns.is_empty() { "no columns".to_owned() } else { columns };
        StageError::new(format!("file '{}' has no column '{name}' of type {}", self.name, kind.name()))
            .hint(format!("it has {found}"))
    }

    fn differs(&self, field: &Field, other: &str) -> StageError {
        let (name, ty) = (field.name(), field.data_type());
        let message = match self.schema().field_with_name(name) {
            Ok(own) => {
                format!("column '{name}' is {} in file '{}' and {ty} in file '{other}'", own.data_type(), self.name)
            }
            Err(_) => format!("file '{}' has no column '{name}', which file '{other}' has", self.name),
        };
        StageError::new(message).hint("the files of one table have the same columns")
    }

    fn damaged(&self, error: impl std::fmt::Display) -> StageError {
        StageError::new(format!("file '{}' cannot be read: {error}", self.name))
    }

    /// Returns the digest that distinguishes its parts from those of other files.
    fn shard(&self) -> Result<Digest> {
        let digest = Digest::of_file(self.location)?;
        Ok(Digest::of_record(SHARD_DOMAIN, &[digest.as_bytes(), self.name.as_bytes()].concat()))
    }

    fn read(&self) -> Result<PlainBatches> {
        self.reader.read(File::open(self.location)?, None).map_err(|error| self.damaged(error))
    }

    /// Returns the columns of a batch that are in `schema`, in its order and with its types.
    fn values(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let column = |field: &FieldRef| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| self.damaged("a column is missing"))?;
            cast(column, field.data_type()).map_err(|error| self.damaged(error))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| self.damaged(error))
    }

    /// Writes the documents of the file. Returns their number, and the number of those that had a different id.
    fn documents(&self, context: &Context, further: &[FieldRef], output: &OutputTree) -> Result<(u64, u64)> {
        let mut shard = ShardWriter::with_columns(output, self.shard()?, further);
        let further: SchemaRef = Arc::new(Schema::new(further.to_vec()));
        let (mut row, mut renamed) = (0, 0);
        for batch in self.read()? {
            context.cancel.check()?;
            let batch = batch.map_err(|error| self.damaged(error))?;
            let columns = Columns::of(&batch).map_err(|error| self.damaged(error))?;
            let values = (!further.fields().is_empty()).then(|| self.values(&batch, &further)).transpose()?;
            let has_id = batch.column_by_name(ID).is_some();
            for index in 0..batch.num_rows() {
                let Some(content) = columns.content.as_ref().and_then(|column| text(column, index)) else {
                    return Err(StageError::new(format!("file '{}' has no '{CONTENT}' in row {row}", self.name))
                        .hint("every document needs content; write \"\" for an empty document"));
                };
                let place = format!("{}#{row}", self.name);
                let text = |column: &'_ Option<StringViewArray>| {
                    column.as_ref().and_then(|column| text(column, index)).map(str::to_owned)
                };
                let number = |name: &str, column: &Option<Int64Array>| match column
                    .as_ref()
                    .and_then(|column| (!column.is_null(index)).then(|| column.value(index)))
                {
                    Some(number @ ..0) => Err(StageError::new(format!(
                        "column '{name}' is {number} in row {row} of file '{}', expected 0 or more",
                        self.name
                    ))),
                    number => Ok(number),
                };
                let (repo_name, path) = (text(&columns.repo_name), text(&columns.path));
                let license = text(&columns.license);
                let document = Document {
                    repo_name: repo_name.as_deref().unwrap_or(&place),
                    path: path.as_deref().unwrap_or(&place),
                    copies: number(COPIES, &columns.copies)?.unwrap_or(1),
                    size: number(SIZE, &columns.size)?.unwrap_or(i64::try_from(content.len()).unwrap_or(i64::MAX)),
                    license: license.as_deref(),
                    content,
                };
                let id = || document_id(document.repo_name, document.path, content).to_string();
                renamed += u64::from(has_id && text(&columns.id) != Some(id()));
                shard.push_with(&document, values.as_ref().map(|values| (values, index)))?;
                row += 1;
            }
            context.progress.add(batch.num_rows() as u64);
        }
        shard.finish()?;
        Ok((row, renamed))
    }
}

/// The format's own columns of a batch, if they exist and have the right type.
struct Columns {
    id: Option<StringViewArray>,
    content: Option<StringViewArray>,
    repo_name: Option<StringViewArray>,
    path: Option<StringViewArray>,
    license: Option<StringViewArray>,
    copies: Option<Int64Array>,
    size: Option<Int64Array>,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, datafusion::arrow::error::ArrowError> {
        // A number that does not fit the type is an error, not a null.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let column = |name: &str, kind: Kind, ty: &DataType| {
            let found = batch.column_by_name(name).filter(|column| kind.holds(column.data_type()));
            found.map(|column| cast_with_options(column, ty, &options)).transpose()
        };
        let text = |name: &str| {
            column(name, Kind::Text, &DataType::Utf8View)
                .map(|column| column.and_then(|column| column.as_string_view_opt().cloned()))
        };
        let number = |name: &str| {
            column(name, Kind::Integer, &DataType::Int64)
                .map(|column| column.and_then(|column| column.as_primitive_opt::<Int64Type>().cloned()))
        };
        Ok(Self {
            id: text(ID)?,
            content: text(CONTENT)?,
            repo_name: text(REPO_NAME)?,
            path: text(PATH)?,
            license: text(LICENSE)?,
            copies: number(COPIES)?,
            size: number(SIZE)?,
        })
    }
}

fn text(column: &StringViewArray, index: usize) -> Option<&str> {
    (!column.is_null(index)).then(|| column.value(index))
}
