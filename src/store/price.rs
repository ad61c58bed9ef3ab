//! What the removal of builds costs for the bytes that it frees.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;

use super::census::Census;

/// Builds that gave the same output.
pub(super) struct Group {
    pub(super) builds: Vec<(Digest, u32)>,
    pub(super) blobs: BTreeSet<Digest>,
    /// What making all of it again would cost: the quickest build of each key.
    pub(super) seconds: f64,
}

/// The loose groups by price, the cheapest first; of equals the first by key. Groups that free nothing go last: others
/// hold what they gave, and go too before the bytes are free.
pub(super) struct Prices<'g> {
    census: &'g Census,
    loose: &'g [Group],
    /// Bytes that the removal of each group would free now.
    freed: Vec<u64>,
    /// The loose groups that name a blob which nothing else keeps.
    naming: BTreeMap<Digest, BTreeSet<usize>>,
    queue: BTreeSet<Price>,
}

/// Groups that free something, by seconds a byte; then those that free nothing.
#[derive(Debug, Clone, Copy)]
struct Price {
    seconds_a_byte: f64,
    group: usize,
}

impl Price {
    fn of(group: usize, seconds: f64, freed: u64) -> Self {
        let seconds_a_byte = if freed > 0 { seconds / freed as f64 } else { f64::INFINITY };
        Self { seconds_a_byte, group }
    }
}

impl Ord for Price {
    fn cmp(&self, other: &Self) -> Ordering {
        self.seconds_a_byte.total_cmp(&other.seconds_a_byte).then_with(|| self.group.cmp(&other.group))
    }
}

impl PartialOrd for Price {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Price {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Price {}

impl<'g> Prices<'g> {
    /// Of these groups; what is `rooted` stays whatever goes.
    pub(super) fn new(census: &'g Census, loose: &'g [Group], rooted: &BTreeSet<Digest>) -> Self {
        let mut naming: BTreeMap<Digest, BTreeSet<usize>> = BTreeMap::new();
        for (index, group) in loose.iter().enumerate() {
            for blob in group.blobs.iter().filter(|blob| !rooted.contains(blob)) {
                naming.entry(*blob).or_default().insert(index);
            }
        }
        let mut freed = vec![0; loose.len()];
        for (blob, groups) in &naming {
            if let (1, Some(group)) = (groups.len(), groups.first()) {
                freed[*group] += census.bytes_of([blob]);
            }
        }
        let price = |(index, group): (usize, &Group)| Price::of(index, group.seconds, freed[index]);
        let queue = loose.iter().enumerate().map(price).collect();
        Self { census, loose, freed, naming, queue }
    }

    /// Takes the cheapest group out: the group, the blobs that are free now, and their bytes.
    pub(super) fn take(&mut self) -> Option<(&'g Group, Vec<Digest>, u64)> {
        let Price { group: index, .. } = self.queue.pop_first()?;
        let group = &self.loose[index];
        let mut free = Vec::new();
        for blob in &group.blobs {
            let Some(naming) = self.naming.get_mut(blob) else { continue };
            naming.remove(&index);
            match (naming.len(), naming.first().copied()) {
                (0, _) => free.push(*blob),
                (1, Some(last)) => {
                    let seconds = self.loose[last].seconds;
                    self.queue.remove(&Price::of(last, seconds, self.freed[last]));
                    self.freed[last] += self.census.bytes_of([blob]);
                    self.queue.insert(Price::of(last, seconds, self.freed[last]));
                }
                _ => {}
            }
        }
        Some((group, free, self.freed[index]))
    }
}
