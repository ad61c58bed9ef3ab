//! Garbage collection: removes unreferenced data, then evicts builds on request, in the order of their cost per byte.
//!
//! # What is never removed
//! - The last builds of the runs of each name, of any project.
//! - The caller's roots: outputs of past runs and of lock files.
//! - Trees that a running process leased ([`super::lease`]), and the scratch of a key whose lock is held.
//! - The scratch of a key that has no build yet, unless requested: a stopped stage resumes from it.
//!
//! A kill at any point leaves a consistent store: records and outputs by name are removed before trees, trees before blobs. While a record
//! or tree is damaged or missing, it is unknown which blobs are needed, so nothing is removed.

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;
use serde::Serialize;

use super::{Inventory, StoreGuard, Totals};
use crate::store::{LockHolder, Record, Result, Store, StoreError, failpoint, files};

/// The options of a garbage collection.
#[derive(Debug, Clone, Default)]
pub struct GcOptions {
    /// Evict builds until the blobs take at most this many bytes; `None` evicts no build.
    pub keep_size: Option<u64>,
    /// What to keep, besides last builds and leased trees; the runs of a name in the order of their numbers.
    pub roots: Vec<GcRoot>,
    /// Whether to also remove the scratch of keys without a build, from which stopped stages would resume.
    pub scratch: bool,
}

/// A run or lock file whose trees and blobs are kept.
#[derive(Debug, Clone, Default)]
pub struct GcRoot {
    /// The name, for people: `quickstart.3 (latest)`.
    pub name: String,
    /// The name of the run, if it is a run: the newest run of a name also keeps the last builds of that name.
    pub run: Option<String>,
    /// The trees to keep.
    pub trees: BTreeSet<Digest>,
    /// The blobs to keep, whether their tree is in the store or not.
    pub blobs: BTreeSet<Digest>,
}

impl GcRoot {
    /// Creates a root that keeps nothing yet.
    pub fn named(name: String) -> Self {
        Self { name, ..Self::default() }
    }
}

/// The data that a root keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// The name of the root.
    pub by: String,
    /// The size of its blobs, in bytes.
    pub bytes: u64,
    /// The size of those blobs that no other root keeps, in bytes.
    pub alone: u64,
}

/// The data that a garbage collection would remove, or has removed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Removals {
    /// The size of all blobs before, in bytes.
    pub before: u64,
    /// The size of all blobs after, in bytes.
    pub after: u64,
    /// The evicted builds, in order.
    pub builds: Vec<RemovedBuild>,
    /// Blobs that no build references.
    pub orphans: Totals,
    /// Damaged objects that were moved aside.
    pub aside: Totals,
    /// Derived files.
    pub derived: Totals,
    /// Scratch of keys that have a build, and of the others if requested.
    pub scratch: Totals,
    /// Scratch that is kept.
    pub scratch_left: Totals,
    /// The size of the blobs that the roots keep, in bytes.
    pub rooted: u64,
    /// The data that each root keeps.
    pub kept: Vec<Retained>,
    #[serde(skip)]
    plan: Sweep,
}

/// An evicted build.
#[derive(Debug, Clone, Serialize)]
pub struct RemovedBuild {
    /// Its key.
    pub key: Digest,
    /// Its number.
    pub build: u32,
    /// The stage kind.
    pub kind: String,
    /// The start time, in milliseconds since 1970.
    pub started: u64,
    /// The recorded time to rebuild it, in seconds.
    pub seconds: f64,
    /// The bytes that its removal frees after the removal of the builds before it.
    pub bytes: u64,
}

/// The objects to remove.
#[derive(Debug, Clone, Default)]
struct Sweep {
    records: Vec<(Digest, u32)>,
    published: BTreeSet<Digest>,
    trees: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    scratch: Vec<Digest>,
    locks: Vec<Digest>,
    derived: Vec<String>,
}

/// The exclusive guard of a garbage collection: while it is held, no process finds, leases or adopts an output.
#[derive(Debug)]
pub struct GcGuard<'s> {
    store: &'s Store,
    _guard: StoreGuard,
}

impl Store {
    /// Computes what [`GcGuard::collect`] would remove now. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unaccountable`] if a record or tree is damaged.
    pub fn removals(&self, options: &GcOptions) -> Result<Removals> {
        // Leases are read before last builds: a run drops its lease last. For the same reason, a caller that reads locks of runs for its
        // roots must read leases first.
        let leases = self.leases.all()?;
        let reader = self.as_reader();
        let inventory = reader.inventory()?;
        let mut damage = inventory.all_damage();
        damage.extend(reader.misplaced()?);
        if !damage.is_empty() {
            return Err(StoreError::Unaccountable(damage));
        }
        let mut roots = options.roots.clone();
        for (run, stages) in &inventory.runs {
            let last = stages.values().flat_map(|last| last.outputs.values().copied());
            match roots.iter_mut().rev().find(|root| root.run.as_ref() == Some(run)) {
                Some(newest) => newest.trees.extend(last),
                None => roots.push(GcRoot { trees: last.collect(), ..GcRoot::named(run.clone()) }),
            }
        }
        for lease in leases {
            let name = lease.holder_name();
            match roots.iter_mut().find(|root| root.name == name) {
                Some(root) => root.trees.extend(lease.trees),
                None => roots.push(GcRoot { trees: lease.trees, ..GcRoot::named(name) }),
            }
        }
        let mut removals = Removals::of(&inventory, &roots, options);
        // Lock files have no content of value, and those of keys in the store are used again.
        let evicted: BTreeSet<_> = removals.plan.records.iter().collect();
        let built = inventory.builds.keys().filter(|build| !evicted.contains(build)).map(|(key, _)| *key);
        let used: BTreeSet<_> = built.chain(inventory.scratch.keys().copied()).collect();
        removals.plan.locks = self.work.locked_keys()?.into_iter().filter(|key| !used.contains(key)).collect();
        Ok(removals)
    }

    /// Waits until no process looks for an output or adopts one, and prevents it while the guard lives. Compute the roots after this call:
    /// a run that ends before it may write more roots.
    pub fn gc_guard(&self) -> Result<GcGuard<'_>> {
        Ok(GcGuard { store: self, _guard: self.leases.exclusive_guard()? })
    }
}

impl GcGuard<'_> {
    /// Computes what to remove, and removes it.
    pub fn collect(&self, options: &GcOptions) -> Result<Removals> {
        let removals = self.store.removals(options)?;
        self.remove(&removals)?;
        Ok(removals)
    }

    /// Removes what [`Store::removals`] computed under this guard. After an error the store is consistent, without the data that was
    /// removed before it.
    pub fn remove(&self, removals: &Removals) -> Result<()> {
        let (store, plan) = (self.store, &removals.plan);
        let layout = store.layout();
        for (key, build) in &plan.records {
            failpoint::pass("gc-before-record");
            // The digests of a key's outputs are kept, so that different outputs are detected.
            store.builds.move_to_ledger(*key, *build)?;
        }
        for tree in &plan.published {
            failpoint::pass("gc-before-published");
            files::remove(&layout.published(*tree))?;
        }
        for tree in &plan.trees {
            failpoint::pass("gc-before-tree");
            files::remove(&layout.tree(*tree))?;
        }
        for blob in &plan.blobs {
            failpoint::pass("gc-before-blob");
            files::remove(&layout.blob(*blob))?;
        }
        for key in &plan.scratch {
            // The lock is held if the key is being built again.
            if let Some(lock) = store.work.lock(*key, &LockHolder::this("gc"))? {
                store.work.clear(&lock)?;
            }
        }
        for key in &plan.locks {
            failpoint::pass("gc-before-lock");
            store.work.remove_lock(*key)?;
        }
        for entry in &plan.derived {
            let path = layout.dir("derived").join(entry);
            // A set that is being created stays.
            store.objects.derived().remove(entry).map_err(StoreError::io("remove", &path))?;
        }
        let damaged = layout.dir("damaged");
        for name in files::names(&damaged)? {
            failpoint::pass("gc-before-aside");
            files::remove(&damaged.join(name))?;
        }
        Ok(())
    }
}

impl Removals {
    fn of(inventory: &Inventory, roots: &[GcRoot], options: &GcOptions) -> Self {
        let blobs_of =
            |root: &GcRoot| inventory.blobs_of(&root.trees).union(&root.blobs).copied().collect::<BTreeSet<_>>();
        let root_blobs: Vec<_> = roots.iter().map(blobs_of).collect();
        let mut holders: BTreeMap<Digest, usize> = BTreeMap::new();
        root_blobs.iter().flatten().for_each(|blob| *holders.entry(*blob).or_default() += 1);
        let kept = roots.iter().zip(&root_blobs).map(|(root, blobs)| Retained {
            by: root.name.clone(),
            bytes: inventory.bytes_of(blobs),
            alone: inventory.bytes_of(blobs.iter().filter(|blob| holders[*blob] == 1)),
        });
        let kept = kept.collect();
        let retained: BTreeSet<Digest> = holders.into_keys().collect();
        let built = inventory.blobs_of(inventory.builds.values().flat_map(|record| record.outputs.values()));
        let orphans: BTreeMap<_, _> =
            inventory.blobs.iter().filter(|(blob, _)| !built.contains(*blob) && !retained.contains(*blob)).collect();
        let before: u64 = inventory.blobs.values().sum();
        let orphan_totals: Totals = orphans.values().copied().collect();
        let mut removals = Self {
            before,
            after: before - orphan_totals.bytes,
            orphans: orphan_totals,
            aside: inventory.all_aside(),
            derived: inventory.derived.values().collect(),
            rooted: inventory.bytes_of(&retained),
            kept,
            ..Self::default()
        };
        let has_build = |key: &Digest| inventory.builds.range((*key, 0)..=(*key, u32::MAX)).next().is_some();
        let (scratch, left): (Vec<_>, Vec<_>) =
            inventory.scratch.iter().partition(|(key, _)| options.scratch || has_build(key));
        removals.scratch = scratch.iter().map(|(_, bytes)| *bytes).collect();
        removals.scratch_left = left.iter().map(|(_, bytes)| *bytes).collect();
        removals.plan.scratch = scratch.into_iter().map(|(key, _)| *key).collect();
        removals.plan.derived = inventory.derived.keys().cloned().collect();
        removals.plan.blobs = orphans.into_keys().copied().collect();
        if let Some(keep) = options.keep_size {
            removals.evict(inventory, &retained, keep);
        }
        let evicted: BTreeSet<_> = removals.plan.records.iter().collect();
        let left = inventory.builds.iter().filter(|(build, _)| !evicted.contains(build));
        let mut needed: BTreeSet<_> = left.flat_map(|(_, record)| record.outputs.values()).copied().collect();
        let roots: BTreeSet<_> = roots.iter().flat_map(|root| root.trees.iter().copied()).collect();
        removals.plan.published = inventory.published.difference(&roots).copied().collect();
        needed.extend(roots);
        removals.plan.trees = inventory.trees.keys().filter(|tree| !needed.contains(*tree)).copied().collect();
        removals
    }

    /// Evicts builds until the blobs take at most `keep` bytes, first those that took the fewest seconds per byte. `retained` blobs are
    /// never removed, and builds without other blobs are not evicted.
    fn evict(&mut self, inventory: &Inventory, retained: &BTreeSet<Digest>, keep: u64) {
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut priced = Vec::new();
        for (build, record) in &inventory.builds {
            let blobs: BTreeSet<_> =
                inventory.blobs_of(record.outputs.values()).difference(retained).copied().collect();
            if !blobs.is_empty() {
                blobs.iter().for_each(|blob| *users.entry(*blob).or_default() += 1);
                priced.push((record.seconds / inventory.bytes_of(&blobs) as f64, build, record, blobs));
            }
        }
        // Builds with equal costs per byte are ordered by their keys.
        priced.sort_by(|(price, ..), (other, ..)| price.total_cmp(other));
        for (_, build, record, mut blobs) in priced {
            if self.after <= keep {
                return;
            }
            blobs.retain(|blob| {
                let left = users.entry(*blob).or_default();
                *left = left.saturating_sub(1);
                *left == 0
            });
            let bytes = inventory.bytes_of(&blobs);
            self.after -= bytes;
            self.plan.blobs.extend(blobs);
            self.plan.records.push(*build);
            let ((key, build), kind) = (*build, record.kind.clone());
            let Record { started, seconds, .. } = *record;
            self.builds.push(RemovedBuild { key, build, kind, started, seconds, bytes });
        }
    }
}
