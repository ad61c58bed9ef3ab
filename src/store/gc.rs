//! Making room: what nothing needs goes first, then the builds that are cheapest to make again for their bytes.
//!
//! # What is never removed
//! - What the runs gave last, by name (`runs/<run>/`).
//! - The trees that a caller names: those of lock files.
//! - What a running process leased ([`super::lease`]), and the scratch of a key whose lock is held.
//! - The scratch of a key that has no build yet: a stage that was stopped goes on from it.
//!
//! # In which order
//! First what no build names: blobs and trees that a crash left, what was moved aside as damaged, the scratch of keys that
//! have a build. Then, when more is asked for, builds: each time the one with the fewest recorded seconds for the bytes
//! that its removal would free now (blobs that another build holds too are not freed).
//!
//! A kill at any point leaves a store that works: records go before trees, trees before blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use contract::Digest;
use serde::Serialize;

use super::census::{Census, Totals};
use super::error::{Result, StoreError};
use super::lock::{HolderInfo, Lock, remove_folder};
use super::{Gate, Store};

/// What to remove.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Remove builds until blobs take no more than so many bytes; without it no build is removed.
    pub keep_size: Option<u64>,
    /// Trees that are to stay, besides those of the runs.
    pub roots: BTreeSet<Digest>,
}

/// What a removal would do, or has done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Removals {
    /// Bytes of all blobs before.
    pub before: u64,
    /// Bytes of all blobs after.
    pub after: u64,
    /// Builds, in the order in which they go.
    pub builds: Vec<RemovedBuild>,
    /// Blobs that no build names.
    pub orphans: Totals,
    /// What was moved aside as damaged.
    pub aside: Totals,
    /// Scratch of keys that have a build.
    pub scratch: Totals,
    /// Bytes that cannot go: what runs, lock files and running processes need.
    pub rooted: u64,
    #[serde(skip)]
    plan: Sweep,
}

/// A build that goes.
#[derive(Debug, Clone, Serialize)]
pub struct RemovedBuild {
    /// Its key.
    pub key: Digest,
    /// Its number.
    pub build: u32,
    /// The stage kind.
    pub kind: String,
    /// When it was made: milliseconds since 1970.
    pub started: u64,
    /// What making it again would cost, as recorded.
    pub seconds: f64,
    /// Bytes that its removal frees, after those before it.
    pub bytes: u64,
}

/// The files that go.
#[derive(Debug, Clone, Default)]
struct Sweep {
    records: Vec<(Digest, u32)>,
    trees: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    scratch: Vec<Digest>,
}

impl Store {
    /// What [`Store::collect`] would remove now. A store that is open for reading only is not changed; in another one what
    /// is found damaged is moved aside, as by any look at it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn removals(&self, wish: &Wish) -> Result<Removals> {
        let census = self.census()?;
        let mut roots = wish.roots.clone();
        roots.extend(census.runs.values().flat_map(|stages| stages.values()).flat_map(|last| last.outputs.values()));
        roots.extend(self.leases()?.into_iter().flat_map(|lease| lease.trees));
        Ok(Marked::new(&census, &roots).removals(wish))
    }

    /// Removes what is wished for; what went. Nobody finds an output in the store meanwhile.
    ///
    /// # Errors
    /// When the store cannot be read or something cannot be removed; what went before is gone, and the store works.
    pub fn collect(&self, wish: &Wish) -> Result<Removals> {
        let gate = self.exclusive_gate()?;
        let removals = self.removals(wish)?;
        self.sweep(&removals.plan, &gate)?;
        Ok(removals)
    }

    fn sweep(&self, plan: &Sweep, _gate: &Gate) -> Result<()> {
        for (key, build) in &plan.records {
            let folder = self.layout().records(*key);
            remove_file(&folder.join(format!("{build:04}.json")))?;
            // Other builds of the key keep the folder.
            let _ = fs::remove_dir(&folder);
        }
        plan.trees.iter().try_for_each(|tree| remove_file(&self.layout().tree(*tree)))?;
        plan.blobs.iter().try_for_each(|blob| remove_file(&self.layout().blob(*blob)))?;
        for key in &plan.scratch {
            // A key that is being built again has its lock held, and its scratch is in use.
            if let Lock::Locked(lock) = self.lock(*key, &HolderInfo::this("gc"))? {
                self.clear_work(&lock)?;
            }
        }
        let damaged = self.layout().folder("damaged");
        for entry in fs::read_dir(&damaged).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { remove_folder(&path)? } else { remove_file(&path)? }
        }
        Ok(())
    }
}

/// A census with what must stay.
struct Marked<'c> {
    census: &'c Census,
    /// Trees that must stay.
    roots: &'c BTreeSet<Digest>,
    /// Their blobs.
    rooted: BTreeSet<Digest>,
    /// Builds that may go, together where they gave the same: one of them alone would free nothing.
    loose: Vec<Group>,
    /// How many groups of builds name a blob.
    holders: BTreeMap<Digest, usize>,
}

/// Builds that gave the same output.
struct Group {
    builds: Vec<(Digest, u32)>,
    blobs: BTreeSet<Digest>,
    /// What making all of it again would cost: the quickest build of each key.
    seconds: f64,
}

impl<'c> Marked<'c> {
    fn new(census: &'c Census, roots: &'c BTreeSet<Digest>) -> Self {
        let rooted = census.blobs_of(roots);
        let mut alike: BTreeMap<&BTreeMap<String, Digest>, Vec<(Digest, u32)>> = BTreeMap::new();
        for (build, record) in &census.builds {
            alike.entry(&record.outputs).or_default().push(*build);
        }
        let mut loose = Vec::new();
        let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
        for (outputs, builds) in alike {
            let blobs = census.blobs_of(outputs.values());
            blobs.iter().for_each(|blob| *holders.entry(*blob).or_default() += 1);
            // Removing builds whose blobs all stay would free nothing.
            if !blobs.is_subset(&rooted) {
                let mut quickest: BTreeMap<Digest, f64> = BTreeMap::new();
                for build in &builds {
                    let seconds = quickest.entry(build.0).or_insert(f64::INFINITY);
                    *seconds = seconds.min(census.builds[build].seconds);
                }
                loose.push(Group { builds, blobs, seconds: quickest.values().sum() });
            }
        }
        Self { census, roots, rooted, loose, holders }
    }

    fn removals(mut self, wish: &Wish) -> Removals {
        let census = self.census;
        let before = census.all_blobs().bytes;
        let orphans: BTreeSet<_> = census.blobs.keys().filter(|blob| self.is_orphan(blob)).copied().collect();
        let mut removals = Removals {
            before,
            after: before - census.bytes_of(&orphans),
            orphans: Totals { count: orphans.len() as u64, bytes: census.bytes_of(&orphans) },
            aside: census.all_aside(),
            rooted: census.bytes_of(&self.rooted),
            ..Removals::default()
        };
        let built: BTreeSet<_> = census.builds.keys().map(|(key, _)| *key).collect();
        let scratch: Vec<_> = census.scratch.iter().filter(|(key, _)| built.contains(*key)).collect();
        removals.scratch = Totals::of(scratch.iter().map(|(_, bytes)| **bytes));
        removals.plan.scratch = scratch.into_iter().map(|(key, _)| *key).collect();
        removals.plan.blobs = orphans;
        while wish.keep_size.is_some_and(|keep| removals.after > keep) {
            let Some((index, bytes)) = self.cheapest() else { break };
            let Group { builds, blobs, .. } = self.loose.swap_remove(index);
            for blob in blobs {
                let holders = self.holders.entry(blob).or_default();
                *holders = holders.saturating_sub(1);
                if *holders == 0 && !self.rooted.contains(&blob) {
                    removals.plan.blobs.insert(blob);
                }
            }
            removals.after -= bytes;
            let last = builds.len() - 1;
            for (number, build) in builds.into_iter().enumerate() {
                let record = &census.builds[&build];
                removals.plan.records.push(build);
                removals.builds.push(RemovedBuild {
                    key: build.0,
                    build: build.1,
                    kind: record.kind.clone(),
                    started: record.started,
                    seconds: record.seconds,
                    // What builds share is free when the last of them goes.
                    bytes: if number == last { bytes } else { 0 },
                });
            }
        }
        let gone: BTreeSet<_> = removals.plan.records.iter().collect();
        let kept = census.builds.iter().filter(|(build, _)| !gone.contains(build));
        let named: BTreeSet<_> = kept.flat_map(|(_, record)| record.outputs.values()).copied().collect();
        let needless = |tree: &&Digest| !named.contains(*tree) && !self.roots.contains(*tree);
        removals.plan.trees = census.trees.keys().filter(needless).copied().collect();
        removals
    }

    fn is_orphan(&self, blob: &Digest) -> bool {
        !self.holders.contains_key(blob) && !self.rooted.contains(blob)
    }

    /// The loose group with the fewest seconds for the bytes that it frees now, and these bytes; of equals the first by
    /// key. Groups that free nothing go last: others hold what they gave, and go too before the bytes are free.
    fn cheapest(&self) -> Option<(usize, u64)> {
        let freed = |group: &Group| {
            let alone =
                group.blobs.iter().filter(|blob| self.holders.get(*blob) == Some(&1) && !self.rooted.contains(*blob));
            self.census.bytes_of(alone)
        };
        let candidates = self.loose.iter().enumerate().map(|(index, group)| (index, freed(group)));
        candidates.min_by(|(one, bytes), (other, others)| {
            let (one, other) = (&self.loose[*one], &self.loose[*other]);
            let order = match (*bytes > 0, *others > 0) {
                (true, true) => (one.seconds / *bytes as f64).total_cmp(&(other.seconds / *others as f64)),
                (one, other) => other.cmp(&one),
            };
            order.then_with(|| one.builds.cmp(&other.builds))
        })
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(StoreError::io("remove", path)),
    }
}
