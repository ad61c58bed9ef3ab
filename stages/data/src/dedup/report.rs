//! The content of `report.json`.

use contract::Progress;
use contract::figures::{count, counted};
use serde::Serialize;
use tables::Attrition;

use super::audit::Audit;
use super::bands::Bands;
use super::decide::Decisions;
use super::groups::Groups;
use super::row_decision::{Clusters, Licenses};
use super::signature::PERMUTATIONS;

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Rows in, kept, and dropped by rule.
    pub documents: Attrition,
    /// The search for near-duplicates; null if it was disabled.
    pub near: Option<Near>,
    /// The measured recall; null if it was not measured.
    pub audit: Option<Audit>,
    /// Clusters by size.
    pub clusters: Clusters,
    /// Licenses of removed documents compared with those of their witnesses.
    pub licenses: Licenses,
}

/// The settings and counts of the search for near-duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Near {
    /// The value of the setting.
    pub threshold: f64,
    /// The number of values in a signature.
    pub permutations: usize,
    /// The number of bands of a signature.
    pub bands: usize,
    /// The number of values in a band.
    pub rows: usize,
    /// The probability that a pair exactly at the threshold is compared.
    pub recall_at_threshold: f64,
    /// The number of buckets with several documents (documents with the same content or token set count as one).
    pub buckets: u64,
    /// The number of documents in the largest bucket.
    pub largest_bucket: u64,
    /// The number of pairs of a document and a kept document that share a bucket.
    pub candidates: u64,
    /// The number of pairs whose sets were compared; the sizes rule out the others.
    pub comparisons: u64,
    /// The number of pairs that reach the threshold.
    pub verified: u64,
}

impl Near {
    /// Creates the report from the settings and the decisions.
    pub fn new(threshold: f64, bands: Bands, groups: &Groups, decisions: &Decisions) -> Self {
        Self {
            threshold,
            permutations: PERMUTATIONS,
            bands: bands.bands,
            rows: bands.rows,
            recall_at_threshold: bands.recall(threshold),
            buckets: groups.buckets,
            largest_bucket: groups.largest_bucket,
            candidates: decisions.candidates,
            comparisons: decisions.comparisons,
            verified: decisions.verified,
        }
    }
}

impl Report {
    /// Reports the main counts as a note.
    pub fn announce(&self, progress: &Progress) {
        let dropped = |rule: &str| self.documents.dropped.get(rule).map_or(0, |dropped| dropped.rows);
        if let Some(near) = &self.near {
            let measured = match self.audit.and_then(|audit| audit.recall.map(|recall| (audit, recall))) {
                Some((audit, recall)) => format!("; measured {recall:.4} on {}", counted(audit.pairs, "pair")),
                None => String::new(),
            };
            progress.info(format!(
                "{} of {} compare a pair at the threshold with probability {:.4}{measured}",
                counted(near.bands as u64, "band"),
                counted(near.rows as u64, "row"),
                near.recall_at_threshold,
            ));
        }
        progress.info(format!(
            "{}: {} kept, {} and {} removed",
            counted(self.documents.rows, "document"),
            count(self.documents.kept),
            counted(dropped("exact"), "exact duplicate"),
            counted(dropped("near"), "near-duplicate"),
        ));
        if self.licenses.stricter_than_kept > 0 {
            progress.warn(format!(
                "{} under a stricter license than the permissive copy that is kept (licenses in the report)",
                counted(self.licenses.stricter_than_kept, "removed file"),
            ));
        }
    }
}
