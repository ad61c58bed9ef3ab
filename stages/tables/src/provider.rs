//! The tables of the store as DataFusion tables: one partition per thread. Text is read only if a query needs it.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;

use contract::InputTree;

use crate::error::TableError;
use crate::rows::{RowsInput, RowsTable};
use crate::table::{Part, Table, with_content};

/// The parts of a table, in order. A scan has at most as many partitions as the session has threads; each partition
/// reads adjacent parts one after another, in order, so that only one part per thread is open.
#[derive(Debug, Clone)]
pub struct FilesProvider {
    parts: Vec<Source>,
    schema: SchemaRef,
}

/// The source of the rows of a part.
#[derive(Debug, Clone)]
enum Source {
    /// Documents: the columns of `rows/`, then `content`.
    Documents(Part),
    /// Rows ([`contract::PortType::Rows`]).
    Rows(RowsInput),
}

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, TableError>> + Send>;

impl FilesProvider {
    /// Returns all documents of a table.
    pub fn documents(table: &Table) -> Self {
        Self { parts: table.parts().iter().cloned().map(Source::Documents).collect(), schema: table.schema() }
    }

    /// Returns the documents of one part.
    pub fn part(part: &Part) -> Self {
        Self { parts: vec![Source::Documents(part.clone())], schema: with_content(part.rows_schema()) }
    }

    /// Returns the table in a tree, of documents or of rows.
    ///
    /// # Errors
    /// Returns an error if the tree is not a table, or a footer cannot be read.
    pub fn open(tree: &InputTree) -> std::result::Result<Self, TableError> {
        match RowsTable::open(tree)? {
            Some(table) => {
                Ok(Self { parts: table.parts.into_iter().map(Source::Rows).collect(), schema: table.schema })
            }
            None => Ok(Self::documents(&Table::open(tree)?)),
        }
    }

    /// Splits the parts into at most `count` runs of adjacent parts with about equally many rows.
    fn partitions(&self, count: usize) -> Vec<Vec<Source>> {
        let count = count.clamp(1, self.parts.len().max(1)) as u128;
        let total: u128 = self.parts.iter().map(|part| u128::from(part.rows())).sum();
        let (mut partitions, mut last, mut before) = (Vec::<Vec<Source>>::new(), None, 0u128);
        for part in &self.parts {
            let number = (before * count / total.max(1)).min(count - 1);
            before += u128::from(part.rows());
            match partitions.last_mut() {
                Some(partition) if last == Some(number) => partition.push(part.clone()),
                _ => partitions.push(vec![part.clone()]),
            }
            last = Some(number);
        }
        if partitions.is_empty() {
            partitions.push(Vec::new());
        }
        partitions
    }
}

impl Source {
    fn rows(&self) -> u64 {
        match self {
            Self::Documents(part) => part.row_count,
            Self::Rows(part) => part.row_count,
        }
    }

    fn read(&self, scan: &Scan) -> std::result::Result<Batches, TableError> {
        match self {
            Self::Documents(part) => {
                let names: Vec<_> = scan.schema.fields().iter().map(|field| field.name().as_str()).collect();
                Ok(Box::new(part.read(&names)?))
            }
            Self::Rows(part) => {
                let (path, columns) = (part.file.path.to_string(), scan.columns.clone());
                let project = move |batch: RecordBatch| match &columns {
                    Some(columns) => batch.project(columns).map_err(|error| TableError::parquet(&path)(error.into())),
                    None => Ok(batch),
                };
                Ok(Box::new(part.read()?.map(move |batch| batch.and_then(&project))))
            }
        }
    }
}

#[async_trait]
impl TableProvider for FilesProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema: SchemaRef = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => self.schema.clone(),
        };
        let scan = Scan { columns: projection.cloned(), schema: schema.clone() };
        let partition =
            |parts: Vec<Source>| Arc::new(Partition { parts, scan: scan.clone() }) as Arc<dyn PartitionStream>;
        let partitions = self.partitions(state.config().target_partitions()).into_iter().map(partition).collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, None, false, limit)?))
    }
}

/// The columns to read.
#[derive(Debug, Clone)]
struct Scan {
    columns: Option<Vec<usize>>,
    schema: Arc<Schema>,
}

/// A partition: adjacent parts, read one after another.
#[derive(Debug)]
struct Partition {
    parts: Vec<Source>,
    scan: Scan,
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.scan.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let scan = self.scan.clone();
        let batches = self.parts.clone().into_iter().flat_map(move |part| -> Batches {
            part.read(&scan).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))))
        });
        let batches = batches.map(|batch| batch.map_err(|error| DataFusionError::External(Box::new(error))));
        Box::pin(RecordBatchStreamAdapter::new(self.scan.schema.clone(), stream::iter(batches)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(rows: &[u64]) -> FilesProvider {
        let part = |(number, rows): (usize, &u64)| {
            let file = contract::InputFile {
                path: format!("rows/{number}.parquet").parse().unwrap_or_else(|_| unreachable!()),
                location: std::path::PathBuf::new(),
                digest: contract::Digest::of(b""),
                size: 0,
            };
            Source::Rows(RowsInput { file, name: number.to_string(), row_count: *rows })
        };
        FilesProvider { parts: rows.iter().enumerate().map(part).collect(), schema: Arc::new(Schema::empty()) }
    }

    #[test]
    fn partitions_are_at_most_the_threads_and_keep_the_order_of_parts() {
        let cases: [&[u64]; 6] = [&[], &[3], &[1; 600], &[131_072, 1, 1, 1], &[1, 1, 1, 131_072], &[0, 0, 5, 0]];
        for rows in cases {
            for threads in [1, 2, 3, 16, 1000] {
                let partitions = provider(rows).partitions(threads);
                assert!((1..=threads).contains(&partitions.len()), "{rows:?} on {threads}");
                let found: Vec<u64> = partitions.iter().flatten().map(Source::rows).collect();
                assert_eq!(found, rows, "{threads} threads");
            }
        }
        let even = provider(&[1; 600]).partitions(4);
        assert_eq!(even.iter().map(Vec::len).collect::<Vec<_>>(), [150; 4]);
    }
}
