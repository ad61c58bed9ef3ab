//! Errors for trees that are not tables and for tables that cannot be read.

use contract::StageError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

/// An error of reading a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A file that does not belong to a table.
    #[error("the input is not a table: unexpected file '{path}'")]
    Foreign {
        /// The path in the tree.
        path: String,
    },
    /// A part whose rows or text are missing.
    #[error("the table's part '{part}' has no '{missing}'")]
    Half {
        /// The part.
        part: String,
        /// The file that is missing.
        missing: String,
    },
    /// A column that is missing, or does not have the type that the format requires.
    #[error("the table's file '{file}' has no column '{column}' of type {expected}")]
    Column {
        /// The name of the file.
        file: String,
        /// The column.
        column: String,
        /// The type.
        expected: String,
    },
    /// A part has different columns from the first part.
    #[error("the table's part '{part}' has different columns from its first part")]
    Columns {
        /// The part.
        part: String,
    },
    /// `row` does not ascend, or points past the text.
    #[error("the table's part '{part}' does not match its text file: {why}")]
    Rows {
        /// The part.
        part: String,
        /// The problem.
        why: String,
    },
    /// A reader that ended before the last row, or returned other text than was written.
    #[error("read {found} {what} of the table's file '{file}', expected {expected}")]
    Incomplete {
        /// The name of the file.
        file: String,
        /// The counted unit.
        what: &'static str,
        /// The number that was written.
        expected: u64,
        /// The number that was read.
        found: u64,
    },
    /// The file is not a Parquet file, or is damaged.
    #[error("cannot read '{file}' of the table: {error}")]
    Parquet {
        /// The name of the file.
        file: String,
        /// The message of the reader.
        error: ParquetError,
    },
}

impl TableError {
    /// Returns the function that converts the errors of a reader of `file`, for `map_err`.
    pub(crate) fn parquet(file: impl ToString) -> impl FnOnce(ParquetError) -> Self {
        move |error| Self::Parquet { file: file.to_string(), error }
    }
}

impl From<TableError> for StageError {
    fn from(error: TableError) -> Self {
        let hint = match &error {
            TableError::Parquet { .. } | TableError::Rows { .. } | TableError::Incomplete { .. } => {
                "the file may be damaged: rebuild the stage that wrote it"
            }
            _ => "connect the port to an output of type documents",
        };
        Self::new(error.to_string()).hint(hint)
    }
}

/// Converts a plan's error to a stage's: the stage's own error if the plan carries one.
pub fn plan_error(error: DataFusionError) -> StageError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(message) => {
            StageError::new(format!("not enough memory for the stage: {message}"))
                .hint("give the run more memory, or fewer threads")
        }
        DataFusionError::External(error) => StageError::new(error.to_string()),
        root => StageError::new(root.strip_backtrace()),
    }
}
