//! The counts of an import. They contain no names and no times, so that renamed shards produce the same bytes.

use std::collections::BTreeMap;

use contract::{Digest, GivenFile};
use serde::Serialize;
use tables::{Attrition, Dropped};

use super::shard_result::ShardResult;

/// The counts of all rows: `rows = kept + dropped + rejected`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The digest that the setting `blake3` pins.
    pub sources: Digest,
    /// Rows read.
    pub rows: u64,
    pub kept: u64,
    pub kept_bytes: u64,
    pub dropped: BTreeMap<String, Dropped>,
    /// The number of malformed rows by kind.
    pub rejected: BTreeMap<&'static str, u64>,
    /// The number of shards that could not be read completely, by the kind of their fault. The rows read before the fault are counted.
    pub unreadable_shards: BTreeMap<&'static str, u64>,
    pub blank_lines: u64,
    pub rows_with_extra_columns: u64,
    /// The number of rows whose `size` is not the length of their content.
    pub size_mismatches: u64,
    /// The number of files equal to another file, which were not read again.
    pub identical_shards: usize,
    /// The shards by digest.
    pub shards: BTreeMap<String, ShardReport>,
}

/// A shard's counts.
#[derive(Debug, Serialize)]
pub(super) struct ShardReport {
    bytes: u64,
    rows: u64,
    kept: u64,
    dropped: u64,
    rejected: u64,
    /// The reason that it could not be read completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<&'static str>,
}

impl Report {
    /// Sums up the results of the distinct `sources` among `files` files.
    pub(super) fn new(digest: Digest, files: usize, sources: &[GivenFile], results: &[ShardResult]) -> Self {
        let mut report = Self {
            sources: digest,
            rows: 0,
            kept: 0,
            kept_bytes: 0,
            dropped: BTreeMap::new(),
            rejected: BTreeMap::new(),
            unreadable_shards: BTreeMap::new(),
            blank_lines: 0,
            rows_with_extra_columns: 0,
            size_mismatches: 0,
            identical_shards: files - sources.len(),
            shards: BTreeMap::new(),
        };
        let mut attrition = Attrition::default();
        for (source, result) in sources.iter().zip(results) {
            attrition.add(&result.attrition);
            let rejected = result.rejected_rows();
            report.rows += result.attrition.rows + rejected;
            for (kind, rows) in &result.rejected {
                *report.rejected.entry(kind).or_default() += rows;
            }
            if let Some(kind) = result.unreadable {
                *report.unreadable_shards.entry(kind).or_default() += 1;
            }
            report.blank_lines += result.blank_lines;
            report.rows_with_extra_columns += result.rows_with_extra_columns;
            report.size_mismatches += result.size_mismatches;
            let shard = ShardReport {
                bytes: source.size,
                rows: result.attrition.rows + rejected,
                kept: result.attrition.kept,
                dropped: result.attrition.rows - result.attrition.kept,
                rejected,
                unreadable: result.unreadable,
            };
            report.shards.insert(source.digest.to_string(), shard);
        }
        report.kept = attrition.kept;
        report.kept_bytes = attrition.kept_bytes;
        report.dropped = attrition.dropped;
        report
    }
}
