//! Tables: the format of documents between stages, and the plans of data stages over them.
//!
//! # The format
//! A table of documents is a tree of two directories of Parquet files, with one file in each for each part:
//!
//! | file | columns |
//! |---|---|
//! | `rows/<part>.parquet` | `id, repo_name, path, copies, size, license`, columns that stages add, `row` |
//! | `text/<part>.text` | `content` |
//!
//! | column | type | content |
//! |---|---|---|
//! | `id` | string | 64 hexadecimal digits: [`document_id`] of repository, path and content |
//! | `repo_name`, `path` | string | the repository and path of the file |
//! | `copies` | int64 | the number of files of the export's source with this content, according to the export |
//! | `size` | int64 | the size of the content in bytes, according to the export |
//! | `license` | string, may be null | the repository's license key |
//! | `row` | uint32 | position of the document in the text part of the same name |
//! | `content` | string | the file |
//!
//! DuckDB, pandas and polars can open `rows/` directly. Within a part `row` ascends, but some rows of the text may be missing: a stage that
//! drops or annotates rows writes a new `rows/` and links the same `text/` files ([`contract::OutputTree::link`]). A text file may
//! therefore contain documents that the table does not contain. It is a Parquet file, but has another extension: a program that reads
//! `**/*.parquet` of the tree finds exactly the table's rows, and [`export()`] writes a directory in which each row has its `content`.
//! Equal rows of an export have equal ids, so an id need not be unique.
//!
//! A part contains rows of one source shard in the source's order, at most [`PART_TEXT_BYTES`] of text (one document more if it does not
//! fit) and [`PART_ROWS`] rows, and is named `<first 16 digits of the shard's digest>-<number>`. The order of a table is the order of its
//! part names, then `row`. A part whose rows were all dropped is absent from both directories. A table without rows has one part,
//! [`EMPTY_PART`], whose files have the table's columns and no rows ([`close`]), so that a query finds its columns before the first row is
//! rejected or dropped.
//!
//! A table of rows ([`contract::PortType::Rows`]: what was dropped or rejected, and why) is the directory `rows/` alone,
//! with other columns.
//!
//! The bytes are determined by the rows: the writer's name is fixed, and text is compressed with zstd level 1 in row groups of
//! [`TEXT_GROUP_BYTES`], of which a reader keeps one in memory at a time. Text has no dictionary; its statistics contain the bytes of each
//! row group.
//!
//! Every reader compares the returned data with what was written: an end before the last row of a part is always an error. The bytes of
//! text are compared for each row group all of whose texts are read; if some of its rows are dropped, the reader only checks that each row
//! has a text.
//!
//! # Plans
//! A row-wise stage calls [`filter()`] with a DataFusion plan that adds a nullable `rule`; rows with a rule are dropped.
//! A global stage takes a [`Session`], or reads [`Part::read`] in [`each_part`], and writes with [`RowsPart`].
//! Every writer of a table finishes it with [`close`].

mod batch;
mod compare;
mod complete;
mod convert;
mod describe;
mod documents;
mod error;
mod export;
mod filter;
mod format;
mod parallel;
mod plain;
mod provider;
mod query;
mod rows;
mod session;
mod table;
mod writer;

pub use batch::DocumentBatch;
pub use compare::rows_compared;
pub use convert::{PlainFile, documents_from, rows_from};
pub use describe::{Column, Description, describe};
pub use documents::Documents;
pub use error::{TableError, plan_error};
pub use export::{Format, export, export_parts, is_table};
pub use filter::{Attrition, Dropped, filter};
pub use format::{
    CLUSTER, CONTENT, COPIES, DETAIL, EMPTY_PART, ID, JACCARD, LICENSE, PART_ROWS, PART_TEXT_BYTES, PATH, REPO_NAME,
    ROW, RULE, SIZE, TEXT_GROUP_BYTES, TEXT_GROUP_ROWS, WITNESS, document_id, dropped_schema, part_name, rows_schema,
};
pub use parallel::each_part;
pub use plain::{PlainBatches, PlainReader};
pub use provider::FilesProvider;
pub use query::{Answer, AnswerFormat, Query, QueryError};
pub use rows::{RowsFile, RowsPart, close, read_rows};
pub use session::Session;
pub use table::{Part, Table};
pub use writer::{Document, ShardWriter};
