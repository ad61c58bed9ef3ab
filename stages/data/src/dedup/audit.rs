//! Measures how many pairs the buckets miss: compares a sample of documents with all others, without buckets.
//!
//! The sample is the comparable leaders ([`super::groups`]) with the smallest blake3 of their ids, so it does not depend on their order.
//! Each document is compared with every other comparable leader whose set size allows the threshold. A pair that reaches the threshold is
//! *found* if the two share a bucket. Pairs of two kept documents are *left*: duplicates that were not removed.
//!
//! It reads each token set once: for 20 million documents, about 50 GB of scratch, with up to 200 short comparisons for each
//! document (most sizes do not fit).

use std::collections::BinaryHeap;

use contract::{Result, Unit};
use rayon::prelude::*;
use serde::Serialize;

use super::decision::{DecisionFile, DocumentDecision};
use super::groups::Groups;
use super::jaccard::{Overlap, sizes_allow};
use super::ranked::Ranked;
use super::record::DocumentRecord;
use super::scratch::Scratch;

/// The number of documents that are compared at the same time.
const BLOCK: u32 = 4096;

/// The counts of an audit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Audit {
    /// The number of documents in the sample.
    pub sample: u64,
    /// The number of pairs of a document in the sample and another document whose token sets reach the threshold. Documents with the same
    /// content or token set count as one.
    pub pairs: u64,
    /// The number of these pairs that share a bucket.
    pub found: u64,
    /// The recall: `found / pairs`; null without pairs.
    pub recall: Option<f64>,
    /// The number of these pairs with two kept documents.
    pub left: u64,
}

struct Sampled {
    rank: u32,
    kept: bool,
    buckets: Vec<[u8; 8]>,
    set: Vec<u64>,
}

impl Audit {
    /// Compares `size` documents with all others.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read, or the stage was asked to stop.
    pub fn of(
        size: usize,
        ranked: &Ranked,
        groups: &Groups,
        decisions: &DecisionFile,
        threshold: f64,
        scratch: &Scratch,
    ) -> Result<Self> {
        if size == 0 {
            return Ok(Self::default());
        }
        let sample = sample(size, ranked, groups, decisions, scratch)?;
        scratch.progress.start("audit", Unit::Rows, Some(u64::from(ranked.length())));
        let layout = ranked.layout();
        let (mut audit, mut first, mut records) =
            (Self { sample: sample.len() as u64, ..Self::default() }, 0, Vec::new());
        while first < ranked.length() {
            scratch.cancel.check()?;
            let count = BLOCK.min(ranked.length() - first);
            ranked.records(first, count, &mut records)?;
            let decisions = decisions.read(first, count)?;
            let compare = |(index, record): (usize, &[u8])| {
                let (rank, document) = (first + index as u32, layout.read(record));
                if !document.comparable || groups.is_follower(rank) {
                    return Ok(Self::default());
                }
                let kept = decisions[index] == DocumentDecision::Kept;
                Self::of_one(&sample, ranked, threshold, (rank, kept), &document, layout.buckets(record))
            };
            let block = scratch.pool.install(|| {
                let each = records.par_chunks_exact(layout.width()).enumerate().map(compare);
                each.try_reduce(Self::default, |a, b| Ok(a.and(b)))
            })?;
            audit = audit.and(block);
            scratch.progress.add(u64::from(count));
            first += count;
        }
        audit.recall = (audit.pairs > 0).then(|| audit.found as f64 / audit.pairs as f64);
        Ok(audit)
    }

    fn of_one(
        sample: &[Sampled],
        ranked: &Ranked,
        threshold: f64,
        (rank, kept): (u32, bool),
        document: &DocumentRecord,
        buckets: &[[u8; 8]],
    ) -> Result<Self> {
        let (mut audit, mut set, mut bytes) = (Self::default(), Vec::new(), Vec::new());
        // A pair within the sample is met twice, and counted only when the other document comes first.
        let within = sample.binary_search_by_key(&rank, |sampled| sampled.rank).is_ok();
        for other in sample {
            if other.rank == rank
                || (within && other.rank > rank)
                || !sizes_allow(threshold, other.set.len(), document.set.length as usize)
            {
                continue;
            }
            if set.is_empty() {
                ranked.set(document.set, &mut set, &mut bytes)?;
            }
            if Overlap::reaching(threshold, &other.set, &set).is_some() {
                audit.pairs += 1;
                audit.found += u64::from(other.buckets.iter().zip(buckets).any(|(a, b)| a == b));
                audit.left += u64::from(kept && other.kept);
            }
        }
        Ok(audit)
    }

    fn and(self, other: Self) -> Self {
        Self {
            sample: self.sample,
            pairs: self.pairs + other.pairs,
            found: self.found + other.found,
            recall: None,
            left: self.left + other.left,
        }
    }
}

/// Returns the sample, by rank.
fn sample(
    size: usize,
    ranked: &Ranked,
    groups: &Groups,
    decisions: &DecisionFile,
    scratch: &Scratch,
) -> Result<Vec<Sampled>> {
    let mut smallest = BinaryHeap::new();
    scratch.progress.start("draw a sample", Unit::Rows, Some(u64::from(ranked.length())));
    ranked.each(scratch, |rank, document, _| {
        if document.comparable && !groups.is_follower(rank) {
            smallest.push((blake3::derive_key("pipeline 2026 dedup audit v1", &document.id), rank));
            if smallest.len() > size {
                smallest.pop();
            }
        }
        Ok(())
    })?;
    let mut ranks: Vec<u32> = smallest.into_iter().map(|(_, rank)| rank).collect();
    ranks.sort_unstable();
    let (mut record, mut bytes) = (Vec::new(), Vec::new());
    let sampled = ranks.into_iter().map(|rank| {
        ranked.records(rank, 1, &mut record)?;
        let mut set = Vec::new();
        ranked.set(ranked.layout().read(&record).set, &mut set, &mut bytes)?;
        let kept = decisions.read(rank, 1)?.first() == Some(&DocumentDecision::Kept);
        Ok(Sampled { rank, kept, buckets: ranked.layout().buckets(&record).to_vec(), set })
    });
    sampled.collect()
}
