//! Runs row-wise stages: filters each part separately, and writes every row to either the kept or the dropped output.

use std::collections::BTreeMap;

use contract::figures::{count, counted};
use contract::{Context, PortType, Result, StageError, Unit};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use datafusion::arrow::compute::{cast, filter_record_batch, is_not_null, is_null};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use serde::Serialize;

use crate::error::plan_error;
use crate::format::{CONTENT, DETAIL, ROW, RULE, SIZE, dropped_schema};
use crate::parallel::each_part;
use crate::rows::{RowsFile, RowsPart, close};
use crate::session::{Session, memory};
use crate::table::Table;

/// The counts of a stage's kept and dropped rows: `rows = kept + the sum of dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attrition {
    /// The number of rows read.
    pub rows: u64,
    /// The number of kept rows.
    pub kept: u64,
    /// The total `size` of the kept rows, in bytes.
    pub kept_bytes: u64,
    /// The dropped rows, by rule.
    pub dropped: BTreeMap<String, Dropped>,
}

/// The counts of rows that one rule dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The number of rows.
    pub rows: u64,
    /// The total `size` of the rows, in bytes.
    pub bytes: u64,
}

impl Attrition {
    /// Adds the counts of another part.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.kept += other.kept;
        self.kept_bytes += other.kept_bytes;
        for (rule, dropped) in &other.dropped {
            self.drop_rows(rule, dropped.rows, dropped.bytes);
        }
    }

    /// Counts rows that a rule dropped (not yet in [`Attrition::rows`]).
    pub fn drop_rows(&mut self, rule: &str, rows: u64, bytes: u64) {
        let dropped = self.dropped.entry(rule.to_owned()).or_default();
        dropped.rows += rows;
        dropped.bytes += bytes;
    }

    /// Returns whether every row is accounted for.
    pub fn conserves(&self) -> bool {
        self.rows == self.kept + self.dropped.values().map(|dropped| dropped.rows).sum::<u64>()
    }
}

/// Runs a row-wise plan over the input table and writes outputs `documents` and `dropped`.
///
/// `plan` receives the documents of one part (all columns, including `row` and `content`) and adds a nullable string column `rule` and
/// optionally `detail`; it must keep the order and the column `row`, and return every row once. Rows with a rule are dropped. Columns that
/// the plan adds become columns of the table, except those whose name begins with `_`: those are for `observe`, which is called with each
/// batch that the plan returns (without `content`), on any thread.
///
/// # Errors
/// Returns an error of the plan or of writing, or an error if the plan loses rows or the stage was asked to stop.
pub fn filter(
    context: &Context,
    table: &Table,
    plan: impl Fn(DataFrame) -> Result<DataFrame, DataFusionError> + Sync,
    observe: impl Fn(&RecordBatch) -> Result<()> + Sync,
) -> Result<Attrition> {
    let (documents, dropped) = (context.outputs.tree("documents")?, context.outputs.tree("dropped")?);
    let runtime = memory(context)?;
    let session = || Session::sequential(context, runtime.clone());
    let planned = |documents: DataFrame| {
        let frame = plan(documents).map_err(plan_error)?;
        match frame.schema().has_column_with_unqualified_name(CONTENT) {
            true => frame.drop_columns(&[CONTENT]).map_err(plan_error),
            false => Ok(frame),
        }
    };
    let schema = kept_schema(table.rows_schema(), planned(session()?.documents(table)?)?.schema().as_arrow());
    context.progress.start("", Unit::Rows, Some(table.rows()));
    let parts = each_part(context, table.parts(), |part| {
        let mut sink = Sink {
            context,
            kept: RowsPart::new(documents, part, schema.clone()),
            dropped: RowsFile::new(dropped, &part.name, dropped_schema()),
            counts: Attrition::default(),
        };
        let session = session()?;
        session.stream(planned(session.part(part)?)?, |batch| {
            observe(&batch)?;
            sink.write(&batch)
        })?;
        let counts = sink.finish()?;
        if counts.rows != part.row_count || !counts.conserves() {
            let (rows, came) = (part.row_count, counts.rows);
            return Err(StageError::new(format!(
                "the plan returned {came} rows for part '{}', expected {rows}",
                part.name
            )));
        }
        Ok(counts)
    })?;
    close(documents, &schema, PortType::Documents)?;
    close(dropped, &dropped_schema(), PortType::Rows)?;
    let mut counts = Attrition::default();
    parts.iter().for_each(|part| counts.add(part));
    context.progress.info(format!("{} of {} kept", count(counts.kept), counted(counts.rows, "document")));
    Ok(counts)
}

/// Writes the kept and the dropped rows of one part.
struct Sink<'a> {
    context: &'a Context,
    kept: RowsPart<'a>,
    dropped: RowsFile<'a>,
    counts: Attrition,
}

impl Sink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.context.progress.add(batch.num_rows() as u64);
        let batch = &plain(batch)?;
        let arrow = |error| StageError::new(format!("the plan's rows: {error}"));
        let rule = batch
            .column_by_name(RULE)
            .and_then(|rule| rule.as_string_opt::<i32>().cloned())
            .ok_or_else(|| StageError::new(format!("the plan returned no string column '{RULE}'")))?;
        let sizes = batch.column_by_name(SIZE).and_then(|size| size.as_primitive_opt::<Int64Type>());
        for index in 0..batch.num_rows() {
            let bytes = sizes.map_or(0, |sizes| sizes.value(index).max(0) as u64);
            self.counts.rows += 1;
            if rule.is_null(index) {
                self.counts.kept += 1;
                self.counts.kept_bytes += bytes;
            } else {
                self.counts.drop_rows(rule.value(index), 1, bytes);
            }
        }
        self.kept.write(&filter_record_batch(batch, &is_null(&rule).map_err(arrow)?).map_err(arrow)?)?;
        let gone: BooleanArray = is_not_null(&rule).map_err(arrow)?;
        self.dropped.write(&with_detail(filter_record_batch(batch, &gone).map_err(arrow)?)?)
    }

    fn finish(self) -> Result<Attrition> {
        self.kept.finish()?;
        self.dropped.finish()?;
        Ok(self.counts)
    }
}

/// Converts strings to the format's string type, whatever string type the plan computes with.
fn plain(batch: &RecordBatch) -> Result<RecordBatch> {
    let error = |error| StageError::new(format!("the plan's rows: {error}"));
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let field = plain_field(field);
        columns.push(cast(column, field.data_type()).map_err(error)?);
        fields.push(field);
    }
    RecordBatch::try_new(Schema::new(fields).into(), columns).map_err(error)
}

fn plain_field(field: &Field) -> Field {
    let ty = match field.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => &DataType::Utf8,
        ty => ty,
    };
    Field::new(field.name(), ty.clone(), true)
}

/// Returns the columns of the kept rows: those of the table, then those that the plan adds, and `row` last.
fn kept_schema(old: &Schema, planned: &Schema) -> SchemaRef {
    let is_new = |name: &str| {
        !matches!(name, RULE | DETAIL | CONTENT) && !name.starts_with('_') && old.column_with_name(name).is_none()
    };
    let mut fields: Vec<Field> =
        old.fields().iter().filter(|field| field.name() != ROW).map(|field| field.as_ref().clone()).collect();
    fields.extend(planned.fields().iter().filter(|field| is_new(field.name())).map(|field| plain_field(field)));
    fields.extend(old.field_with_name(ROW).ok().cloned());
    Schema::new(fields).into()
}

fn with_detail(batch: RecordBatch) -> Result<RecordBatch> {
    if batch.column_by_name(DETAIL).is_some() {
        return Ok(batch);
    }
    let mut fields: Vec<_> = batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(DETAIL, DataType::Utf8, true));
    let mut columns = batch.columns().to_vec();
    columns.push(new_null_array(&DataType::Utf8, batch.num_rows()));
    RecordBatch::try_new(Schema::new(fields).into(), columns).map_err(|error| StageError::new(error.to_string()))
}
