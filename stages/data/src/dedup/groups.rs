//! Which documents have something in common: a fingerprint, a token set, a bucket.
//!
//! Everything is told as *facts*, records of 13 bytes sorted by rank: `rank` (4), what it is (1), its value (8). Whoever
//! decides the documents in order reads the facts beside them.
//!
//! | fact | value | told of |
//! |---|---|---|
//! | `fingerprint` | number of the group | every document whose fingerprint is not its alone |
//! | `set` | number of the group | every comparable document whose token set is not its alone |
//! | `bucket` | first cell of the bucket | every comparable *leader* in a bucket that is not its alone |
//!
//! A leader is the first document with its fingerprint and token set. The others need no buckets: whatever becomes of
//! the leader, they are exact duplicates of a kept document or share the leader's decision ([`super::decide`]).
//!
//! A bucket of `m` leaders owns `m + 1` cells: the number of its kept members, and then their ranks. So a bucket of
//! 100,000 near-identical files costs each of them one comparison with the one that is kept.

use contract::{Result, Unit};

use super::ranked::Ranked;
use super::record::take;
use super::sort::{Sorted, Sorter};
use super::workshop::Workshop;

/// The width of a fact.
const FACT: usize = 4 + 1 + 8;
const FINGERPRINT: u8 = 0;
const SET: u8 = 1;
const BUCKET: u8 = 2;

/// What documents have in common, by rank.
#[derive(Debug)]
pub struct Groups {
    facts: Facts,
    /// One bit a rank: whether an earlier document has its fingerprint and token set.
    followers: Vec<u64>,
    /// Fingerprints of several documents.
    pub fingerprints: u64,
    /// Token sets of several comparable documents.
    pub sets: u64,
    /// Cells of all buckets.
    pub cells: u64,
    /// Buckets of several leaders.
    pub buckets: u64,
    /// The leaders in the largest of them.
    pub largest_bucket: u64,
}

/// The facts of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared {
    /// The group of its fingerprint.
    pub fingerprint: Option<u64>,
    /// The group of its token set.
    pub set: Option<u64>,
    /// The first cells of its buckets.
    pub buckets: Vec<u64>,
}

impl Groups {
    /// Finds them, in the workshop's memory and one bit a document.
    ///
    /// # Errors
    /// When the scratch folder cannot be written or read, or the stage was asked to stop.
    pub fn find(ranked: &Ranked, workshop: &Workshop) -> Result<Self> {
        let mut facts = Sorter::new(workshop, "facts", FACT, 4);
        let layout = ranked.layout();

        // Fingerprint and token set together: groups by the first 16 bytes, followers by all 32.
        let mut copies = Sorter::new(workshop, "copies", 36, 4);
        let mut sets = Sorter::new(workshop, "equal-sets", 20, 4);
        workshop.progress.start("find exact duplicates", Unit::Rows, Some(u64::from(ranked.length())));
        ranked.each(workshop, |rank, document, _| {
            let mut copy = [0; 36];
            copy[..16].copy_from_slice(&document.fingerprint);
            copy[16..32].copy_from_slice(&document.set_hash);
            copy[32..].copy_from_slice(&rank.to_be_bytes());
            copies.push(&copy)?;
            if document.comparable { sets.push(&copy[16..]) } else { Ok(()) }
        })?;
        let mut followers = vec![0u64; (ranked.length() as usize).div_ceil(64)];
        let mut before = None;
        let fingerprints = number_groups(copies.finish()?, FINGERPRINT, &mut facts, |record| {
            if before.as_ref().is_some_and(|before: &[u8; 32]| before == &record[..32]) {
                let rank = u32::from_be_bytes(take(&mut &record[32..]));
                followers[rank as usize / 64] |= 1 << (rank % 64);
            }
            before = Some(take(&mut &record[..]));
        })?;
        let sets = number_groups(sets.finish()?, SET, &mut facts, |_| ())?;

        let mut groups =
            Self { facts: Facts::none(), followers, fingerprints, sets, cells: 0, buckets: 0, largest_bucket: 0 };
        let mut members = Sorter::new(workshop, "buckets", 2 + 8 + 4, 2);
        workshop.progress.start("find buckets", Unit::Rows, Some(u64::from(ranked.length())));
        ranked.each(workshop, |rank, document, record| {
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
        groups.facts = Facts::new(facts.finish()?)?;
        Ok(groups)
    }

    /// Whether an earlier document has its fingerprint and its token set.
    pub fn is_follower(&self, rank: u32) -> bool {
        self.followers[rank as usize / 64] >> (rank % 64) & 1 == 1
    }

    /// The facts of the document of this rank; to be asked in order.
    ///
    /// # Errors
    /// When the scratch folder cannot be read.
    pub fn shared(&mut self, rank: u32) -> Result<Shared> {
        self.facts.of(rank)
    }

    /// Gives each bucket of several members its cells.
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

/// Numbers the groups of several records with the same first 16 bytes, tells their members, and shows each record.
fn number_groups(mut sorted: Sorted, what: u8, facts: &mut Sorter, mut each: impl FnMut(&[u8])) -> Result<u64> {
    let mut group: Option<[u8; 16]> = None;
    let (mut first, mut size, mut groups) = (0, 0, 0);
    while let Some(record) = sorted.next()? {
        each(record);
        let key: [u8; 16] = take(&mut &record[..]);
        let rank = u32::from_be_bytes(take(&mut &record[record.len() - 4..]));
        if group == Some(key) {
            size += 1;
            if size == 2 {
                groups += 1;
                facts.push(&fact(first, what, groups - 1))?;
            }
            facts.push(&fact(rank, what, groups - 1))?;
        } else {
            (group, first, size) = (Some(key), rank, 1);
        }
    }
    Ok(groups)
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
struct Facts {
    sorted: Option<Sorted>,
    next: Option<(u32, u8, u64)>,
}

impl Facts {
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
