//! Decides each document once, in order; what is decided stays decided.
//!
//! 1. If an earlier document has the same fingerprint, the document is removed, rule `exact`. The witness is the first
//!    document with that fingerprint, or, where that one was removed by rule 3 or 4, its witness.
//! 2. A document that is not comparable (too few tokens) is kept.
//! 3. If the decision about its token set was made for an earlier document by this rule or rule 4, it is removed, rule
//!    `near`, with that document as its witness, or that document's witness if it was removed itself.
//! 4. It is compared with every kept document that shares a bucket with it. If one reaches the threshold it is removed,
//!    rule `near`; the witness is the most similar one, the first in order among equals. Otherwise it is kept.
//!
//! So every witness is kept, no two kept documents that share a bucket reach the threshold, and which documents rule 1
//! removes depends on no setting of the near-duplicates.
//!
//! Documents are taken in blocks of [`BLOCK`]. Comparisons with what was kept before the block run on all threads; those
//! within the block follow in order. The size of a block changes no decision, but the number of comparisons; it is
//! therefore part of the algorithm and not of the machine.

use std::sync::{Mutex, PoisonError};

use contract::{Result, Unit};
use rayon::prelude::*;

use super::cache::SetCache;
use super::cells::Cells;
use super::groups::{Groups, Shared};
use super::jaccard::{Overlap, sizes_allow};
use super::links::Links;
use super::outcome::{Outcome, OutcomeWriter, Outcomes, Rule};
use super::ranked::Ranked;
use super::record::Document;
use super::workshop::Workshop;

/// Documents of a block, in the stage.
pub const BLOCK: u32 = 4096;

/// All decisions.
#[derive(Debug)]
pub struct Decisions {
    /// What becomes of each document, by rank.
    pub outcomes: Outcomes,
    /// Kept documents that are near the same removed document.
    pub links: Links,
    /// Pairs that share a bucket and were looked at.
    pub candidates: u64,
    /// Those among them whose token sets were compared; the sizes of the others' sets rule the threshold out.
    pub comparisons: u64,
    /// Those among them that reach the threshold.
    pub verified: u64,
}

/// What was found of a document among those kept so far.
#[derive(Debug, Default)]
struct Search {
    /// Kept members of each of its buckets when the search was made.
    seen: Vec<u32>,
    /// Those that reach the threshold, with their overlap.
    near: Vec<(Overlap, u32)>,
    candidates: u64,
    comparisons: u64,
}

/// What a thread works with, kept from block to block.
#[derive(Debug)]
struct Bench {
    ranks: Vec<u32>,
    own: Vec<u64>,
    bytes: Vec<u8>,
    cache: SetCache,
}

impl Bench {
    fn new(memory: u64) -> Mutex<Self> {
        Mutex::new(Self { ranks: Vec::new(), own: Vec::new(), bytes: Vec::new(), cache: SetCache::new(memory) })
    }
}

struct Entry {
    rank: u32,
    document: Document,
    shared: Shared,
}

/// What is known so far; ranks are stored as `rank + 1`, and 0 means none.
struct State<'a> {
    ranked: &'a Ranked,
    threshold: f64,
    /// The witness of each fingerprint that several documents have: the first of them if it is kept, else its witness.
    fingerprints: Cells,
    /// Three cells a token set that several documents have: the witness and the overlap with it.
    sets: Cells,
    /// Kept members of each bucket.
    buckets: Cells,
}

/// Decides all documents, `block` at a time (at least 1), in the workshop's memory and that of [`Links`].
///
/// # Errors
/// When the scratch folder cannot be written or read, or the stage was asked to stop.
pub fn decide(
    ranked: &Ranked,
    groups: &mut Groups,
    threshold: f64,
    block: u32,
    workshop: &Workshop,
) -> Result<Decisions> {
    let cells = |length, share, name| Cells::new(length, workshop.memory / share, || workshop.create(name));
    let mut state = State {
        ranked,
        threshold,
        fingerprints: cells(groups.fingerprints, 8, "kept-fingerprints")?,
        sets: cells(3 * groups.sets, 8, "decided-sets")?,
        buckets: cells(groups.cells, 4, "kept-in-buckets")?,
    };
    let mut outcomes = OutcomeWriter::new(workshop.create("outcomes")?);
    let (mut links, mut candidates, mut comparisons, mut verified) = (Links::default(), 0, 0, 0);
    // One a thread, and the last for what follows in order.
    let threads = workshop.pool.current_num_threads();
    let benches: Vec<_> = (0..=threads).map(|_| Bench::new(workshop.memory / 4 / (threads as u64 + 1))).collect();
    let bench = |index: usize| benches[index.min(threads)].lock().unwrap_or_else(PoisonError::into_inner);
    let (mut first, mut records) = (0, Vec::new());
    workshop.progress.start("compare", Unit::Rows, Some(u64::from(ranked.length())));
    while first < ranked.length() {
        workshop.cancel.check()?;
        let count = block.min(ranked.length() - first);
        ranked.records(first, count, &mut records)?;
        let entries = (first..)
            .zip(records.chunks_exact(ranked.layout().width()))
            .map(|(rank, record)| {
                Ok(Entry { rank, document: ranked.layout().read(record), shared: groups.shared(rank)? })
            })
            .collect::<Result<Vec<_>>>()?;
        let searches = workshop.pool.install(|| {
            let searches = entries.par_iter().map(|entry| {
                // One document of a large family is compared with many thousands.
                workshop.cancel.check()?;
                let thread = rayon::current_thread_index().unwrap_or(threads);
                state.search_before(entry, &mut bench(thread))
            });
            searches.collect::<Result<Vec<_>>>()
        })?;
        let mut bench = bench(threads);
        for (entry, mut search) in entries.iter().zip(searches) {
            workshop.cancel.check()?;
            let outcome = state.decide(entry, &mut search, &mut bench)?;
            if let Outcome::Removed { witness, .. } = outcome {
                search.near.iter().for_each(|&(_, near)| links.join(witness, near));
            }
            candidates += search.candidates;
            comparisons += search.comparisons;
            verified += search.near.len() as u64;
            outcomes.push(outcome)?;
        }
        workshop.progress.add(u64::from(count));
        first += count;
    }
    Ok(Decisions { outcomes: outcomes.finish()?, links, candidates, comparisons, verified })
}

impl State<'_> {
    /// What the rules before the comparison say.
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

    /// Compares a document with what its buckets hold now, unless it is settled.
    fn search_before(&self, entry: &Entry, bench: &mut Bench) -> Result<Search> {
        let mut search = Search::default();
        if entry.shared.buckets.is_empty() || self.settled(entry)?.is_some() {
            return Ok(search);
        }
        search.seen = vec![0; entry.shared.buckets.len()];
        self.search(entry, &mut search, bench)?;
        Ok(search)
    }

    /// Compares a document with what its buckets hold beyond what the search has seen.
    fn search(&self, entry: &Entry, search: &mut Search, bench: &mut Bench) -> Result<()> {
        let Bench { ranks, own, bytes, cache } = bench;
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

    fn decide(&mut self, entry: &Entry, search: &mut Search, bench: &mut Bench) -> Result<Outcome> {
        if let Some((rule, witness, overlap)) = self.settled(entry)? {
            search.near.clear();
            let overlap = match overlap {
                Some(overlap) => overlap,
                None => self.overlap(&entry.document, &self.ranked.document(witness)?)?,
            };
            self.remember_fingerprint(entry, witness)?;
            return Ok(Outcome::Removed { rule, witness, overlap });
        }
        if !search.seen.is_empty() {
            self.search(entry, search, bench)?;
        }
        let best = search.near.iter().max_by(|(a, x), (b, y)| a.compare(*b).then(y.cmp(x)));
        let outcome = match best {
            Some(&(overlap, witness)) => Outcome::Removed { rule: Rule::Near, witness, overlap },
            None => Outcome::Kept,
        };
        self.remember(entry, outcome)?;
        Ok(outcome)
    }

    fn overlap(&self, a: &Document, b: &Document) -> Result<Overlap> {
        if a.set_hash == b.set_hash {
            return Ok(Overlap::of_equal(a.set.length));
        }
        let (mut x, mut y, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        self.ranked.set(a.set, &mut x, &mut bytes)?;
        self.ranked.set(b.set, &mut y, &mut bytes)?;
        Ok(Overlap::of(&x, &y))
    }

    fn remember(&mut self, entry: &Entry, outcome: Outcome) -> Result<()> {
        let (witness, overlap) = match outcome {
            Outcome::Kept => (entry.rank, Overlap::of_equal(entry.document.set.length)),
            Outcome::Removed { witness, overlap, .. } => (witness, overlap),
        };
        if let Some(group) = entry.shared.set {
            self.sets.set(3 * group, witness + 1)?;
            self.sets.set(3 * group + 1, overlap.both)?;
            self.sets.set(3 * group + 2, overlap.either)?;
        }
        self.remember_fingerprint(entry, witness)?;
        if outcome == Outcome::Kept {
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
