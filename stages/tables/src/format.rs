//! Names, sizes and writer properties of the format (crate docs).

use std::sync::Arc;

use contract::{Digest, Result, StageError};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};

/// Column of document ids.
pub const ID: &str = "id";
/// Column of repositories.
pub const REPO_NAME: &str = "repo_name";
/// Column of paths in the repository.
pub const PATH: &str = "path";
/// Column of numbers of copies.
pub const COPIES: &str = "copies";
/// Column of sizes in bytes.
pub const SIZE: &str = "size";
/// Column of license keys.
pub const LICENSE: &str = "license";
/// Column of positions in the text part.
pub const ROW: &str = "row";
/// Column of texts.
pub const CONTENT: &str = "content";
/// Column of the rule that drops a row; null if the row is kept.
pub const RULE: &str = "rule";
/// Column of the value that the rule measured, or null.
pub const DETAIL: &str = "detail";
/// Column of near-duplicate clusters: equal for documents of one cluster, null for documents without duplicates.
pub const CLUSTER: &str = "cluster";
/// Column of the id of the document that is kept instead of a duplicate.
pub const WITNESS: &str = "witness";
/// Column of the similarity of a duplicate and its witness.
pub const JACCARD: &str = "jaccard";

/// Returns whether a stage writes a column of this name, or computes with one, which would silently replace a column of another program.
pub(crate) fn is_reserved(name: &str) -> bool {
    [ROW, RULE, DETAIL, CLUSTER, WITNESS, JACCARD].contains(&name) || name.starts_with('_')
}

/// The number of bytes of text after which a shard starts a new part.
pub const PART_TEXT_BYTES: usize = 128 << 20;
/// The number of rows after which a shard starts a new part.
pub const PART_ROWS: usize = 1 << 17;
/// The number of bytes of text in a row group, which a reader keeps in memory at a time (more only if a single document is larger).
pub const TEXT_GROUP_BYTES: usize = 8 << 20;
/// The maximum number of rows in a row group of text.
pub const TEXT_GROUP_ROWS: usize = 8192;
/// The number of rows in a row group of `rows/`.
const ROWS_GROUP_ROWS: usize = 1 << 16;

/// The name of the writer in each file's metadata.
pub(crate) const WRITER: &str = "pipeline table 1";
const ID_DOMAIN: &str = "pipeline 2026 document v1";

/// Returns the id of a document: blake3 of repository, path and content, each preceded by its length (u64, little-endian).
pub fn document_id(repo_name: &str, path: &str, content: &str) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(ID_DOMAIN);
    for field in [repo_name, path, content] {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// Returns the name of the `number`-th part of a shard.
pub fn part_name(shard: Digest, number: usize) -> String {
    format!("{}-{number:05}", &shard.to_string()[..16])
}

/// The name of the single part of a table without rows, which contains its columns.
pub const EMPTY_PART: &str = "empty";

/// Returns the path of a part's rows in the tree of its table.
pub(crate) fn rows_path(part: &str) -> String {
    format!("rows/{part}.parquet")
}

/// Returns the path of a part's text in the tree of its table. The file is Parquet, but has another extension: it contains texts that the
/// table does not contain, so a program that reads `**/*.parquet` of a table must not find it.
pub(crate) fn text_path(part: &str) -> String {
    format!("text/{part}.text")
}

/// Returns the part that a path of a table's tree belongs to, and whether it is the part's text; `None` for any other path.
pub(crate) fn part_of(path: &str) -> Option<(&str, bool)> {
    let (folder, file) = path.split_once('/')?;
    let (part, is_text) = match folder {
        "rows" => (file.strip_suffix(".parquet")?, false),
        "text" => (file.strip_suffix(".text")?, true),
        _ => return None,
    };
    (!part.contains('/')).then_some((part, is_text))
}

/// Returns the columns of `rows/` as `import` writes them.
pub fn rows_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(ID, DataType::Utf8, false),
        Field::new(REPO_NAME, DataType::Utf8, false),
        Field::new(PATH, DataType::Utf8, false),
        Field::new(COPIES, DataType::Int64, false),
        Field::new(SIZE, DataType::Int64, false),
        Field::new(LICENSE, DataType::Utf8, true),
        Field::new(ROW, DataType::UInt32, false),
    ]))
}

/// Returns the columns of a `dropped` table.
pub fn dropped_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(ID, DataType::Utf8, false),
        Field::new(REPO_NAME, DataType::Utf8, false),
        Field::new(PATH, DataType::Utf8, false),
        Field::new(RULE, DataType::Utf8, false),
        Field::new(DETAIL, DataType::Utf8, true),
    ]))
}

pub(crate) fn content_field() -> Field {
    Field::new(CONTENT, DataType::Utf8, false)
}

/// Returns the columns of a text file.
pub(crate) fn text_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![content_field()]))
}

fn properties() -> Result<WriterPropertiesBuilder> {
    let level = ZstdLevel::try_new(1).map_err(write_error)?;
    Ok(WriterProperties::builder().set_created_by(WRITER.to_owned()).set_compression(Compression::ZSTD(level)))
}

/// Returns the writer properties of a text part; the caller ends each row group.
pub(crate) fn text_options() -> Result<ArrowWriterOptions> {
    let properties = properties()?
        .set_max_row_group_row_count(Some(TEXT_GROUP_ROWS))
        .set_dictionary_enabled(false)
        // The bytes of text of each row group, which readers compare with what they read.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // The page size is checked once per write batch: small batches keep pages near their limit.
        .set_write_batch_size(16)
        .set_data_page_size_limit(1 << 20)
        .build();
    Ok(ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true))
}

/// Returns the writer properties of a part of rows.
pub(crate) fn rows_options() -> Result<ArrowWriterOptions> {
    let properties = properties()?
        .set_max_row_group_row_count(Some(ROWS_GROUP_ROWS))
        .set_column_dictionary_enabled(ID.into(), false)
        .set_column_dictionary_enabled(ROW.into(), false)
        .build();
    Ok(ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true))
}

pub(crate) fn write_error(error: ParquetError) -> StageError {
    StageError::new(format!("cannot write a part: {error}"))
}
