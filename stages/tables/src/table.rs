//! A table of documents that lies in the store.

use std::collections::BTreeMap;
use std::fs::File;

use contract::{InputFile, InputTree};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};

use crate::error::TableError;
use crate::format::{CONTENT, content_field, rows_schema};

/// A table of documents.
#[derive(Debug, Clone)]
pub struct Table {
    parts: Vec<Part>,
    rows_schema: SchemaRef,
}

/// A part of a table: rows, and the text that they point into.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name, the same in both folders.
    pub name: String,
    /// Its Parquet file of rows.
    pub rows: InputFile,
    /// Its Parquet file of texts.
    pub text: InputFile,
    /// The number of its rows.
    pub row_count: u64,
    /// The columns of `rows`.
    pub(crate) rows_schema: SchemaRef,
}

impl Table {
    /// The table that a tree holds. Reads the footers of the `rows/` parts, no data.
    ///
    /// # Errors
    /// When the tree is no table: a foreign file, half a part, parts that differ in columns, columns of the format
    /// missing or of another type, a damaged footer.
    pub fn open(tree: &InputTree) -> Result<Self, TableError> {
        let mut halves: BTreeMap<String, (Option<InputFile>, Option<InputFile>)> = BTreeMap::new();
        for file in &tree.files {
            let path = file.path.as_str();
            let foreign = || TableError::Foreign { path: path.to_owned() };
            let (folder, name) = path.split_once('/').ok_or_else(foreign)?;
            let name = name.strip_suffix(".parquet").filter(|name| !name.contains('/')).ok_or_else(foreign)?;
            let halves = halves.entry(name.to_owned()).or_default();
            match folder {
                "rows" => halves.0 = Some(file.clone()),
                "text" => halves.1 = Some(file.clone()),
                _ => return Err(foreign()),
            }
        }
        let mut parts = Vec::with_capacity(halves.len());
        for (name, halves) in halves {
            let (rows, text) = match halves {
                (Some(rows), Some(text)) => (rows, text),
                (rows, _) => {
                    let folder = if rows.is_none() { "rows" } else { "text" };
                    return Err(TableError::Half { missing: format!("{folder}/{name}.parquet"), part: name });
                }
            };
            let metadata = footer(&rows)?;
            let rows_schema = metadata.schema().clone();
            check(&rows_schema, &rows)?;
            let row_count = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or_default();
            parts.push(Part { name, rows, text, row_count, rows_schema });
        }
        let rows_schema = parts.first().map_or_else(rows_schema, |part| part.rows_schema.clone());
        match parts.iter().find(|part| part.rows_schema.fields() != rows_schema.fields()) {
            Some(part) => Err(TableError::Columns { part: part.name.clone() }),
            None => Ok(Self { parts, rows_schema }),
        }
    }

    /// Its parts, sorted by name.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The number of its rows.
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.row_count).sum()
    }

    /// The columns of `rows/`, `row` among them.
    pub fn rows_schema(&self) -> &SchemaRef {
        &self.rows_schema
    }

    /// The columns of `rows/`, then `content`.
    pub fn schema(&self) -> SchemaRef {
        with_content(&self.rows_schema)
    }

    /// Whether `rows/` has this column.
    pub fn has_column(&self, name: &str) -> bool {
        self.rows_schema.column_with_name(name).is_some()
    }
}

impl Part {
    /// The columns of its rows.
    pub fn rows_schema(&self) -> &SchemaRef {
        &self.rows_schema
    }
}

pub(crate) fn with_content(rows: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = rows.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(content_field());
    Schema::new(fields).into()
}

/// The columns that the format promises.
fn check(schema: &Schema, file: &InputFile) -> Result<(), TableError> {
    let missing = |field: &Field| TableError::Column {
        file: file.path.to_string(),
        column: field.name().clone(),
        expected: field.data_type().to_string(),
    };
    for field in rows_schema().fields() {
        match schema.field_with_name(field.name()) {
            Ok(found) if found.data_type() == field.data_type() => {}
            _ => return Err(missing(field)),
        }
    }
    match schema.column_with_name(CONTENT) {
        Some(_) => Err(TableError::Foreign { path: format!("{} with a column {CONTENT}", file.path) }),
        None => Ok(()),
    }
}

/// Opens a file of the store.
pub(crate) fn open(file: &InputFile) -> Result<File, TableError> {
    File::open(&file.location).map_err(|error| TableError::parquet(&file.path)(error.into()))
}

/// The metadata of a Parquet file.
pub(crate) fn footer(file: &InputFile) -> Result<ArrowReaderMetadata, TableError> {
    ArrowReaderMetadata::load(&open(file)?, ArrowReaderOptions::new()).map_err(TableError::parquet(&file.path))
}
