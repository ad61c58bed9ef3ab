//! Writes the outputs: splits the rows into kept and dropped ones by their decisions.

use std::sync::Arc;

use contract::figures::{count, counted};
use contract::{Context, Digest, PortType, Result, StageError, Unit};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tables::{
    Attrition, CLUSTER, ID, JACCARD, PATH, Part, REPO_NAME, ROW, RULE, RowsFile, RowsPart, SIZE, Table, WITNESS,
    each_part,
};

use super::read::numbered;
use super::row_decision::{RowDecision, RowDecisions};

/// Writes the outputs `documents` and `dropped`; returns the counts.
pub(super) fn write(context: &Context, table: &Table, decisions: &RowDecisions) -> Result<Attrition> {
    context.progress.start("write", Unit::Rows, Some(table.rows()));
    let parts = each_part(context, &numbered(table)?, |&(part, first)| write_part(context, part, first, decisions))?;
    let mut documents = Attrition::default();
    parts.iter().for_each(|part| documents.add(part));
    tables::close(context.outputs.tree("documents")?, &kept_schema(table.rows_schema()), PortType::Documents)?;
    tables::close(context.outputs.tree("dropped")?, &dropped_schema(), PortType::Rows)?;
    if documents.rows != table.rows() || !documents.conserves() {
        return Err(StageError::new(format!(
            "{} accounted for, but the table has {}",
            counted(documents.rows, "document"),
            count(table.rows())
        )));
    }
    Ok(documents)
}

fn write_part(context: &Context, part: &Part, first: u32, decisions: &RowDecisions) -> Result<Attrition> {
    let columns: Vec<&str> = part.rows_schema().fields().iter().map(|field| field.name().as_str()).collect();
    let mut kept = RowsPart::new(context.outputs.tree("documents")?, part, kept_schema(part.rows_schema()));
    let mut dropped = RowsFile::new(context.outputs.tree("dropped")?, &part.name, dropped_schema());
    let (mut counts, mut number) = (Attrition::default(), first);
    for batch in part.read(&columns)? {
        context.cancel.check()?;
        let batch = batch?;
        let decisions = decisions.read(number, batch.num_rows())?;
        // The rows of all parts were numbered in 32 bits.
        number += batch.num_rows() as u32;
        add_up(&batch, &decisions, &mut counts);
        let is_kept: BooleanArray = decisions.iter().map(|decision| Some(decision.removed.is_none())).collect();
        let is_dropped: BooleanArray = decisions.iter().map(|decision| Some(decision.removed.is_some())).collect();
        let batch = with_decisions(&batch, &decisions)?;
        kept.write(&filter_record_batch(&batch, &is_kept).map_err(fault)?)?;
        dropped.write(&filter_record_batch(&batch, &is_dropped).map_err(fault)?)?;
        context.progress.add(decisions.len() as u64);
    }
    kept.finish()?;
    dropped.finish()?;
    Ok(counts)
}

fn add_up(batch: &RecordBatch, decisions: &[RowDecision], counts: &mut Attrition) {
    let sizes = batch.column_by_name(SIZE).and_then(|sizes| sizes.as_primitive_opt::<Int64Type>());
    for (index, decision) in decisions.iter().enumerate() {
        let bytes = sizes.map_or(0, |sizes| sizes.value(index).max(0) as u64);
        counts.rows += 1;
        match decision.removed {
            Some((rule, _, _)) => counts.drop_rows(rule.name(), 1, bytes),
            None => {
                counts.kept += 1;
                counts.kept_bytes += bytes;
            }
        }
    }
}

/// Returns the schema of `documents`: the input's columns, `cluster`, and `row` last.
fn kept_schema(rows: &Schema) -> SchemaRef {
    let others = rows.fields().iter().filter(|field| !matches!(field.name().as_str(), CLUSTER | ROW)).cloned();
    let cluster = Arc::new(Field::new(CLUSTER, DataType::Utf8, true));
    let row = rows.fields().iter().filter(|field| field.name() == ROW).cloned();
    Arc::new(Schema::new(others.chain([cluster]).chain(row).collect::<Vec<_>>()))
}

fn dropped_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(ID, DataType::Utf8, false),
        Field::new(REPO_NAME, DataType::Utf8, false),
        Field::new(PATH, DataType::Utf8, false),
        Field::new(RULE, DataType::Utf8, false),
        Field::new(WITNESS, DataType::Utf8, false),
        Field::new(JACCARD, DataType::Float64, false),
    ]))
}

/// Adds the columns of both outputs to the rows.
fn with_decisions(batch: &RecordBatch, decisions: &[RowDecision]) -> Result<RecordBatch> {
    let id = |bytes: [u8; 32]| Digest::from_bytes(bytes).to_string();
    let cluster: StringArray = decisions.iter().map(|decision| decision.cluster.map(id)).collect();
    let removed = || decisions.iter().map(|decision| decision.removed);
    let rule: StringArray = removed().map(|removed| removed.map(|(rule, ..)| rule.name())).collect();
    let witness: StringArray = removed().map(|removed| removed.map(|(_, witness, _)| id(witness))).collect();
    let jaccard: Float64Array = removed().map(|removed| removed.map(|(_, _, overlap)| overlap.jaccard())).collect();
    let added: [(&str, ArrayRef); 4] = [
        (CLUSTER, Arc::new(cluster)),
        (RULE, Arc::new(rule)),
        (WITNESS, Arc::new(witness)),
        (JACCARD, Arc::new(jaccard)),
    ];
    let is_added = |name: &str| added.iter().any(|(other, _)| *other == name);
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !is_added(field.name()) {
            fields.push(field.as_ref().clone());
            columns.push(column.clone());
        }
    }
    for (name, column) in added {
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(fault)
}

fn fault(error: datafusion::arrow::error::ArrowError) -> StageError {
    StageError::new(format!("cannot create the rows: {error}"))
}
