//! Reads each document of a table once.

use contract::{Context, Digest, Result, StageError, Unit};
use tables::{DocumentBatch, Part, Table, each_part};

use super::collect::{Collector, SignatureSettings};
use super::license_key::LicenseKey;
use super::preference::Traits;
use super::ranked::Ranked;
use super::scratch::Scratch;

/// Reads all documents of `table`.
pub(super) fn read(
    context: &Context,
    table: &Table,
    settings: &SignatureSettings,
    scratch: &Scratch,
) -> Result<Ranked> {
    let collector = Collector::new(settings, scratch)?;
    context.progress.start("read documents", Unit::Rows, Some(table.rows()));
    each_part(context, &numbered(table)?, |&(part, first)| {
        let (mut reader, mut number) = (collector.reader(), first);
        for batch in part.documents()? {
            let batch = DocumentBatch::try_from(batch?)?;
            for index in 0..batch.len() {
                // A batch is megabytes of text: checking between batches alone would react too late.
                context.cancel.check()?;
                let id: Digest = batch.id(index).parse().map_err(|error| {
                    StageError::new(format!("part '{}', row {}: {error}", part.name, batch.row(index)))
                })?;
                let traits = Traits {
                    license: LicenseKey::of(batch.license(index)),
                    copies: u64::try_from(batch.copies(index)).unwrap_or(0),
                    size: batch.content(index).len() as u64,
                    path: batch.path(index),
                };
                reader.add(number, *id.as_bytes(), &traits, batch.content(index))?;
                number += 1;
            }
            context.progress.add(batch.len() as u64);
        }
        reader.flush()
    })?;
    let ranked = collector.finish()?;
    if u64::from(ranked.length()) != table.rows() {
        return Err(StageError::new(format!("read {} of {} documents", ranked.length(), table.rows())));
    }
    Ok(ranked)
}

/// Returns the parts, each with the number of its first document.
pub(super) fn numbered(table: &Table) -> Result<Vec<(&Part, u32)>> {
    let mut next = 0u64;
    let number = |part: &'_ Part| {
        let first = next;
        next += part.row_count;
        u32::try_from(next).map(|_| first as u32)
    };
    let firsts: Result<Vec<u32>, _> = table.parts().iter().map(number).collect();
    let firsts = firsts.map_err(|_| {
        StageError::new("the table has more than 4,294,967,295 documents")
            .hint("deduplicate its shards in several stages")
    })?;
    Ok(table.parts().iter().zip(firsts).collect())
}
