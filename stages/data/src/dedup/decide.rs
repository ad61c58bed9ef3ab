//! Decides on each document once, in order; a decision is final.
//!
//! 1. If an earlier document has the same fingerprint, the document is removed, rule `exact`. The witness is the first document with that
//!    fingerprint or, if that document was removed by rule 3 or 4, its witness.
//! 2. A document that is not comparable (too few tokens) is kept.
//! 3. If this rule or rule 4 has already decided on an earlier document with the same token set, the document is removed, rule `near`. The
//!    witness is that document, or its witness if it was removed itself.
//! 4. It is compared with every kept document that shares a bucket with it. If any of them reaches the threshold, the document is removed,
//!    rule `near`; the witness is the most similar one (ties: the first in order). Otherwise it is kept.
//!
//! So every witness is kept, no two kept documents that share a bucket reach the threshold, and the documents that rule 1 removes depend on
//! no setting for near-duplicates.
//!
//! Documents are processed in blocks of [`BLOCK`]. Comparisons with documents kept before the block run on all threads; those within the
//! block follow in order. The size of a block affects no decision, but it does affect the reported number of comparisons; it is therefore
//! fixed and does not depend on the machine.

use std::sync::{Mutex, PoisonError};

use contract::{Result, Unit};
use rayon::prelude::*;

use super::cache::SetCache;
use super::decision::{DecisionFile, DecisionWriter, DocumentDecision, Rule};
use super::disjoint_set::DisjointSet;
use super::groups::{Groups, Shared};
use super::jaccard::{Overlap, sizes_allow};
use super::ranked::Ranked;
use super::record::DocumentRecord;
use super::scratch::Scratch;
use super::u32_array::U32Array;

/// The number of documents in a block, as used by the stage.
pub const BLOCK: u32 = 4096;

/// The decisions on all documents.
#[derive(Debug)]
pub struct Decisions {
    /// The decision on each document, by rank.
    pub by_rank: DecisionFile,
    /// The sets of kept documents that are near the same removed document.
    pub linked: DisjointSet,
    /// The number of considered pairs that share a bucket.
    pub candidates: u64,
    /// The number of these pairs whose token sets were compared; for the others, the sizes of the sets rule out the threshold.
    pub comparisons: u64,
    /// The number of these pairs that reach the threshold.
    pub verified: u64,
}

/// The result of the search for one document among the documents kept so far.
#[derive(Debug, Default)]
struct Search {
    /// The number of kept members of each of its buckets at the time of the search.
    seen: Vec<u32>,
    /// The kept documents that reach the threshold, with their overlap.
    near: Vec<(Overlap, u32)>,
    candidates: u64,
    comparisons: u64,
}

/// The buffers of one thread, reused for every block.
#[derive(Debug)]
struct ThreadState {
    ranks: Vec<u32>,
    own: Vec<u64>,
    bytes: Vec<u8>,
    cache: SetCache,
}

impl ThreadState {
    fn new(memory: u64) -> Mutex<Self> {
        Mutex::new(Self { ranks: Vec::new(), own: Vec::new(), bytes: Vec::new(), cache: SetCache::new(memory) })
    }
}

struct Entry {
    rank: u32,
    document: DocumentRecord,
    shared: Shared,
}

/// The decisions so far, by fingerprint, token set and bucket. Ranks are stored as `rank + 1`; 0 means none.
struct Decider<'a> {
    ranked: &'a Ranked,
    threshold: f64,
    /// The witness of each fingerprint that several documents have: the first of these documents if it is kept, otherwise its witness.
    fingerprints: U32Array,
    /// The witness and the overlap with it (three values), for each token set that several documents have.
    sets: U32Array,
    /// The kept members of each bucket.
    buckets: U32Array,
}

/// Decides on all documents, `block` at a time (at least 1), within `scratch.memory` and the memory of [`DisjointSet`].
///
/// # Errors
/// Returns an error if the scratch directory cannot be written or read, or the stage was asked to stop.
pub fn decide(
    ranked: &Ranked,
    groups: &mut Groups,
    threshold: f64,
    block: u32,
    scratch: &Scratch,
) -> Result<Decisions> {
    let array = |length, share, name| U32Array::new(length, scratch.memory / share, || scratch.create(name));
    let mut decider = Decider {
        ranked,
        threshold,
        fingerprints: array(groups.fingerprints, 8, "kept-fingerprints")?,
        sets: array(3 * groups.sets, 8, "decided-sets")?,
        buckets: array(groups.cells, 4, "kept-in-buckets")?,
    };
    let mut writer = DecisionWriter::new(scratch.create("decisions")?);
    let (mut linked, mut candidates, mut comparisons, mut verified) = (DisjointSet::default(), 0, 0, 0);
    // One per thread, and the last one for the sequential part.
    let threads = scratch.pool.current_num_threads();
    let thread_states: Vec<_> =
        (0..=threads).map(|_| ThreadState::new(scratch.memory / 4 / (threads as u64 + 1))).collect();
    let thread_state = |index: usize| thread_states[index.min(threads)].lock().unwrap_or_else(PoisonError::into_inner);
    let (mut first, mut records) = (0, Vec::new());
    scratch.progress.start("compare", Unit::Rows, Some(u64::from(ranked.length())));
    while first < ranked.length() {
        scratch.cancel.check()?;
        let count = block.min(ranked.length() - first);
        ranked.records(first, count, &mut records)?;
        let entries = (first..)
            .zip(records.chunks_exact(ranked.layout().width()))
            .map(|(rank, record)| {
                Ok(Entry { rank, document: ranked.layout().read(record), shared: groups.shared(rank)? })
            })
            .collect::<Result<Vec<_>>>()?;
        let searches = scratch.pool.install(|| {
            let searches = entries.par_iter().map(|entry| {
                // A document of a large family is compared with many thousands of documents.
                scratch.cancel.check()?;
                let thread = rayon::current_thread_index().unwrap_or(threads);
                decider.search_before(entry, &mut thread_state(thread))
            });
            searches.collect::<Result<Vec<_>>>()
        })?;
        let mut thread_state = thread_state(threads);
        for (entry, mut search) in entries.iter().zip(searches) {
            scratch.cancel.check()?;
            let decision = decider.decide(entry, &mut search, &mut thread_state)?;
            if let DocumentDecision::Removed { witness, .. } = decision {
                search.near.iter().for_each(|&(_, near)| linked.join(witness, near));
            }
            candidates += search.candidates;
            comparisons += search.comparisons;
            verified += search.near.len() as u64;
            writer.push(decision)?;
        }
        scratch.progress.add(u64::from(count));
        first += count;
    }
    Ok(Decisions { by_rank: writer.finish()?, linked, candidates, comparisons, verified })
}

impl Decider<'_> {
    /// Returns the decision of the rules that need no comparison.
    fn settled(&self, entry: &Entry) -> Result<Option<(Rule, u32, Option<Overlap>)>> {
        if let Some(group) = entry.shared.fingerprint
            && let Some(witness) = self.fingerprints.get(group)?.checked_sub(1)
        {
            return Ok(Some((Rule::Exact, witness, None)));
        }
        if let Some(group) = entry.shared.set
            && let Some(witness) = self.sets.get(3 * group)?.checked_sub(1)
        {
            let overlap = Overlap { both: self.sets.get(3 * group + 1)?, either: self.sets.get(3 * group + 2)? };
            return Ok(Some((Rule::Near, witness, Some(overlap))));
        }
        Ok(None)
    }

    /// Compares a document with the documents in its buckets, unless a rule before the comparison removes it.
    fn search_before(&self, entry: &Entry, thread_state: &mut ThreadState) -> Result<Search> {
        let mut search = Search::default();
        if entry.shared.buckets.is_empty() || self.settled(entry)?.is_some() {
            return Ok(search);
        }
        search.seen = vec![0; entry.shared.buckets.len()];
        self.search(entry, &mut search, thread_state)?;
        Ok(search)
    }

    /// Compares a document with the documents that were added to its buckets since the search last looked.
    fn search(&self, entry: &Entry, search: &mut Search, thread_state: &mut ThreadState) -> Result<()> {
        let ThreadState { ranks, own, bytes, cache } = thread_state;
        ranks.clear();
        for (&bucket, seen) in entry.shared.buckets.iter().zip(&mut search.seen) {
            let kept = self.buckets.get(bucket)?;
            if kept > *seen {
                self.buckets.read(bucket + 1 + u64::from(*seen), kept - *seen, ranks)?;
                *seen = kept;
            }
        }
        ranks.sort_unstable();
        ranks.dedup();
        if !ranks.is_empty() {
            self.ranked.set(entry.document.set, own, bytes)?;
        }
        for &rank in &*ranks {
            search.candidates += 1;
            let place = cache.place(self.ranked, rank)?;
            if !sizes_allow(self.threshold, own.len(), place.length as usize) {
                continue;
            }
            search.comparisons += 1;
            let other = cache.set(self.ranked, rank, place)?;
            if let Some(overlap) = Overlap::reaching(self.threshold, own, other) {
                search.near.push((overlap, rank));
            }
        }
        Ok(())
    }

    fn decide(
        &mut self,
        entry: &Entry,
        search: &mut Search,
        thread_state: &mut ThreadState,
    ) -> Result<DocumentDecision> {
        if let Some((rule, witness, overlap)) = self.settled(entry)? {
            search.near.clear();
            let overlap = match overlap {
                Some(overlap) => overlap,
                None => self.overlap(&entry.document, &self.ranked.document(witness)?)?,
            };
            self.remember_fingerprint(entry, witness)?;
            return Ok(DocumentDecision::Removed { rule, witness, overlap });
        }
        if !search.seen.is_empty() {
            self.search(entry, search, thread_state)?;
        }
        let best = search.near.iter().max_by(|(a, x), (b, y)| a.compare(*b).then(y.cmp(x)));
        let decision = match best {
            Some(&(overlap, witness)) => DocumentDecision::Removed { rule: Rule::Near, witness, overlap },
            None => DocumentDecision::Kept,
        };
        self.remember(entry, decision)?;
        Ok(decision)
    }

    fn overlap(&self, a: &DocumentRecord, b: &DocumentRecord) -> Result<Overlap> {
        if a.set_hash == b.set_hash {
            return Ok(Overlap::of_equal(a.set.length));
        }
        let (mut x, mut y, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        self.ranked.set(a.set, &mut x, &mut bytes)?;
        self.ranked.set(b.set, &mut y, &mut bytes)?;
        Ok(Overlap::of(&x, &y))
    }

    fn remember(&mut self, entry: &Entry, decision: DocumentDecision) -> Result<()> {
        let (witness, overlap) = match decision {
            DocumentDecision::Kept => (entry.rank, Overlap::of_equal(entry.document.set.length)),
            DocumentDecision::Removed { witness, overlap, .. } => (witness, overlap),
        };
        if let Some(group) = entry.shared.set {
            self.sets.set(3 * group, witness + 1)?;
            self.sets.set(3 * group + 1, overlap.both)?;
            self.sets.set(3 * group + 2, overlap.either)?;
        }
        self.remember_fingerprint(entry, witness)?;
        if decision == DocumentDecision::Kept {
            for &bucket in &entry.shared.buckets {
                let kept = self.buckets.get(bucket)?;
                self.buckets.set(bucket + 1 + u64::from(kept), entry.rank)?;
                self.buckets.set(bucket, kept + 1)?;
            }
        }
        Ok(())
    }
    fn remember_fingerprint(&mut self, entry: &Entry, witness: u32) -> Result<()> {
        match entry.shared.fingerprint {
            Some(group) => Ok(self.fingerprints.set(group, witness + 1)?),
            None => Ok(()),
        }
    }
}
