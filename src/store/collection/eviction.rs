//! The order in which builds are evicted: by recorded seconds for each byte that no other build needs, the cheapest first.

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;

use super::Inventory;

/// Builds with the same output, which are evicted together: the removal of one of them would free nothing.
struct Group {
    builds: Vec<(Digest, u32)>,
    blobs: BTreeSet<Digest>,
    /// Cost of building the output again: the fastest build of each key.
    seconds: f64,
}

/// A group of builds to evict.
pub(super) struct Evicted {
    pub(super) builds: Vec<(Digest, u32)>,
    /// The blobs that no build needs any more.
    pub(super) blobs: Vec<Digest>,
}

/// Returns all builds that may be evicted, in order; groups with the same price in the order of their keys. `retained` blobs are
/// never removed, and builds with no other blobs are not evicted. Groups that share all their blobs with others come last.
pub(super) fn order(inventory: &Inventory, retained: &BTreeSet<Digest>) -> Vec<Evicted> {
    let mut by_output: BTreeMap<&BTreeMap<String, Digest>, Vec<(Digest, u32)>> = BTreeMap::new();
    for (build, record) in &inventory.builds {
        by_output.entry(&record.outputs).or_default().push(*build);
    }
    let mut groups = Vec::new();
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for (outputs, builds) in by_output {
        let blobs: BTreeSet<_> = inventory.blobs_of(outputs.values()).difference(retained).copied().collect();
        let mut fastest: BTreeMap<Digest, f64> = BTreeMap::new();
        for build in &builds {
            let seconds = fastest.entry(build.0).or_insert(f64::INFINITY);
            *seconds = seconds.min(inventory.builds[build].seconds);
        }
        if !blobs.is_empty() {
            blobs.iter().for_each(|blob| *users.entry(*blob).or_default() += 1);
            groups.push(Group { builds, blobs, seconds: fastest.values().sum() });
        }
    }
    let price = |group: &Group| match inventory.bytes_of(group.blobs.iter().filter(|blob| users[*blob] == 1)) {
        0 => f64::INFINITY,
        bytes => group.seconds / bytes as f64,
    };
    let mut priced: Vec<_> = groups.into_iter().map(|group| (price(&group), group)).collect();
    priced.sort_by(|(price, group), (other_price, other)| {
        price.total_cmp(other_price).then_with(|| group.builds.cmp(&other.builds))
    });
    let evict = |(_, Group { builds, blobs, .. }): (f64, Group)| {
        let mut is_free = |blob: &Digest| {
            let left = users.entry(*blob).or_default();
            *left = left.saturating_sub(1);
            *left == 0
        };
        Evicted { builds, blobs: blobs.into_iter().filter(|blob| is_free(blob)).collect() }
    };
    priced.into_iter().map(evict).collect()
}
