//! Finds the documents that share a fingerprint, a token set or a bucket.
//!
//! The results are *facts*, records of 13 bytes sorted by rank: `rank` (4), kind (1), value (8). The decision
//! reads them in order, beside the documents.
//!
//! | fact | value | documents that have it |
//! |---|---|---|
//! | `fingerprint` | number of the group | documents with a fingerprint that several documents have |
//! | `set` | number of the group | comparable documents, each the first with its fingerprint, with a token set that several of these have |
//! | `bucket` | first array element of the bucket | comparable *leaders* in a bucket of several leaders |
//!
//! A leader is the first document with its fingerprint, and the first among those with its token set. The others, the *followers*, need no
//! buckets: they share the decision about an earlier document ([`super::decide`]).
//!
//! A bucket of `m` leaders has `m + 1` array elements: the number of its kept members, then their ranks. So in a bucket of 100,000
//! near-identical files, each file is compared only with the one that is kept.

use contract::{Result, Unit};

use super::ranked::Ranked;
use super::record::take;
use super::scratch::Scratch;
use super::sort::{Sorted, Sorter};

/// The width of a fact.
const FACT: usize = 4 + 1 + 8;
const FINGERPRINT: u8 = 0;
const SET: u8 = 1;
const BUCKET: u8 = 2;

/// The groups of each document, by rank.
#[derive(Debug)]
pub struct Groups {
    facts: FactReader,
    /// One bit per rank: whether the document is a follower.
    followers: Vec<u64>,
    /// The number of fingerprints of several documents.
    pub fingerprints: u64,
    /// The number of token sets of several comparable documents with different fingerprints.
    pub sets: u64,
    /// The number of array elements of all buckets.
    pub cells: u64,
    /// The number of buckets of several leaders.
    pub buckets: u64,
    /// The number of leaders in the largest bucket.
    pub largest_bucket: u64,
}

/// The facts of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared {
    /// The group of its fingerprint.
    pub fingerprint: Option<u64>,
    /// The group of its token set.
    pub set: Option<u64>,
    /// The first array element of each of its buckets.
    pub buckets: Vec<u64>,
}

impl Groups {
    /// Finds the groups, using `scratch.memory` and one bit per document.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be written or read, or the stage was asked to stop.
    pub fn find(ranked: &Ranked, scratch: &Scratch) -> Result<Self> {
        let mut facts = Sorter::new(scratch, "facts", FACT, 4);
        let layout = ranked.layout();

        let mut copies = Sorter::new(scratch, "copies", 20, 4);
        let mut sets = Sorter::new(scratch, "equal-sets", 20, 4);
        scratch.progress.start("find exact duplicates", Unit::Rows, Some(u64::from(ranked.length())));
        ranked.each(scratch, |rank, document, _| {
            copies.push(&member(&document.fingerprint, rank))?;
            if document.comparable { sets.push(&member(&document.set_hash, rank)) } else { Ok(()) }
        })?;
        let mut groups = Self {
            facts: FactReader::none(),
            followers: vec![0; (ranked.length() as usize).div_ceil(64)],
            fingerprints: 0,
            sets: 0,
            cells: 0,
            buckets: 0,
            largest_bucket: 0,
        };
        groups.fingerprints = groups.number(copies.finish()?, FINGERPRINT, &mut facts)?;
        // Documents that follow another by their fingerprint are already decided and are in no group of sets.
        groups.sets = groups.number(sets.finish()?, SET, &mut facts)?;

        let mut members = Sorter::new(scratch, "buckets", 2 + 8 + 4, 2);
        scratch.progress.start("find buckets", Unit::Rows, Some(u64::from(ranked.length())));
        ranked.each(scratch, |rank, document, record| {
            if groups.is_follower(rank) || !document.comparable {
                return Ok(());
            }
            let mut batch = Vec::with_capacity(14 * layout.bands);
            for (band, bucket) in (0u16..).zip(layout.buckets(record)) {
                batch.extend_from_slice(&band.to_be_bytes());
                batch.extend_from_slice(bucket);
                batch.extend_from_slice(&rank.to_be_bytes());
            }
            members.push(&batch)
        })?;
        groups.place_buckets(members.finish()?, &mut facts)?;
        groups.facts = FactReader::new(facts.finish()?)?;
        Ok(groups)
    }

    /// Returns whether an earlier document has the same fingerprint, or is the leader with the same token set.
    pub fn is_follower(&self, rank: u32) -> bool {
        self.followers[rank as usize / 64] >> (rank % 64) & 1 == 1
    }

    /// Returns the groups of the document of this rank. Ranks must be in order.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn shared(&mut self, rank: u32) -> Result<Shared> {
        self.facts.of(rank)
    }

    /// Numbers the groups of several [`member`]s, adds a fact for each member, and marks all but the first as followers.
    /// Members that are followers already are skipped. Returns the number of groups.
    fn number(&mut self, mut sorted: Sorted, what: u8, facts: &mut Sorter) -> Result<u64> {
        let mut group: Option<[u8; 16]> = None;
        let (mut first, mut size, mut groups) = (0, 0, 0);
        while let Some(mut record) = sorted.next()? {
            let (key, rank): ([u8; 16], u32) = (take(&mut record), u32::from_be_bytes(take(&mut record)));
            if self.is_follower(rank) {
                continue;
            }
            if group != Some(key) {
                (group, first, size) = (Some(key), rank, 1);
                continue;
            }
            size += 1;
            if size == 2 {
                groups += 1;
                facts.push(&fact(first, what, groups - 1))?;
            }
            facts.push(&fact(rank, what, groups - 1))?;
            self.followers[rank as usize / 64] |= 1 << (rank % 64);
        }
        Ok(groups)
    }

    /// Assigns array elements to each bucket of several members.
    fn place_buckets(&mut self, mut members: Sorted, facts: &mut Sorter) -> Result<()> {
        let mut bucket: Option<[u8; 10]> = None;
        let (mut first, mut size) = (0, 0u64);
        while let Some(record) = members.next()? {
            let (key, rank): ([u8; 10], u32) = (take(&mut &record[..]), u32::from_be_bytes(take(&mut &record[10..])));
            if bucket == Some(key) {
                if size == 1 {
                    facts.push(&fact(first, BUCKET, self.cells))?;
                }
                facts.push(&fact(rank, BUCKET, self.cells))?;
                size += 1;
            } else {
                self.close_bucket(size);
                (bucket, first, size) = (Some(key), rank, 1);
            }
        }
        self.close_bucket(size);
        Ok(())
    }

    fn close_bucket(&mut self, size: u64) {
        if size > 1 {
            self.cells += size + 1;
            self.buckets += 1;
            self.largest_bucket = self.largest_bucket.max(size);
        }
    }
}

/// Returns a record of the member of a group, which sorts by group and then rank.
fn member(group: &[u8; 16], rank: u32) -> [u8; 20] {
    let mut record = [0; 20];
    record[..16].copy_from_slice(group);
    record[16..].copy_from_slice(&rank.to_be_bytes());
    record
}

fn fact(rank: u32, what: u8, value: u64) -> [u8; FACT] {
    let mut fact = [0; FACT];
    fact[..4].copy_from_slice(&rank.to_be_bytes());
    fact[4] = what;
    fact[5..].copy_from_slice(&value.to_be_bytes());
    fact
}

/// The sorted facts, read beside the documents.
#[derive(Debug)]
struct FactReader {
    sorted: Option<Sorted>,
    next: Option<(u32, u8, u64)>,
}

impl FactReader {
    fn none() -> Self {
        Self { sorted: None, next: None }
    }

    fn new(sorted: Sorted) -> Result<Self> {
        let mut facts = Self { sorted: Some(sorted), next: None };
        facts.advance()?;
        Ok(facts)
    }

    fn advance(&mut self) -> Result<()> {
        self.next = match &mut self.sorted {
            Some(sorted) => sorted.next()?.map(|mut fact| {
                let rank = u32::from_be_bytes(take(&mut fact));
                let what = take::<1>(&mut fact)[0];
                (rank, what, u64::from_be_bytes(take(&mut fact)))
            }),
            None => None,
        };
        Ok(())
    }

    fn of(&mut self, rank: u32) -> Result<Shared> {
        let mut shared = Shared::default();
        while let Some((at, what, value)) = self.next
            && at <= rank
        {
            if at == rank {
                match what {
                    FINGERPRINT => shared.fingerprint = Some(value),
                    SET => shared.set = Some(value),
                    _ => shared.buckets.push(value),
                }
            }
            self.advance()?;
        }
        Ok(shared)
    }
}
