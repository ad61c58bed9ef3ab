//! Making room: what nothing needs goes first, then the builds that are cheapest to make again for their bytes.
//!
//! # What is never removed
//! - The last outputs of each stage in the runs of each name, of any project.
//! - What a caller names: what the locks of past runs and lock files hold.
//! - What a running process leased ([`super::lease`]), and the scratch of a key whose lock is held.
//! - The scratch of a key that has no build yet, unless it is asked for: a stage that was stopped goes on from it.
//!
//! # In which order
//! First what no build names: blobs and trees that a crash left, what was moved aside as damaged, the scratch of keys that
//! have a build, and derived files, which are made again on demand. Then, when more is asked for, builds: each time the one with the fewest recorded seconds for the bytes
//! that its removal would free now (blobs that another build holds too are not freed).
//!
//! A kill at any point leaves a store that works: records and outputs by name go before trees, trees before blobs.
//!
//! In a store with a torn record or tree, or a tree that is gone, nobody can say which blobs are needed: nothing is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use contract::Digest;
use serde::Serialize;

use super::census::{Census, Totals};
use super::error::{Result, StoreError};
use super::lock::{HolderInfo, remove_folder};
use super::price::{Group, Prices};
use super::{Gate, Store, failpoint};

/// What to remove.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Remove builds until blobs take no more than so many bytes; without it no build is removed.
    pub keep_size: Option<u64>,
    /// What is to stay, besides the last outputs of each name's runs and what running processes use; the runs of a name from the oldest.
    pub holders: Vec<Holder>,
    /// Remove also the scratch of keys that have no build, which stages that were stopped would go on from.
    pub scratch: bool,
}

/// What keeps trees and blobs from being removed: a run, a lock file.
#[derive(Debug, Clone, Default)]
pub struct Holder {
    /// For people: `quickstart.3 (latest)`.
    pub name: String,
    /// The name of the run, where it is one: the newest holds also the last outputs of the runs of that name.
    pub run: Option<String>,
    /// Trees that are to stay.
    pub trees: BTreeSet<Digest>,
    /// Blobs that are to stay, whether their tree is there or not.
    pub blobs: BTreeSet<Digest>,
}

/// What stays for a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The holder.
    pub by: String,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Bytes of those that no other holder has.
    pub alone: u64,
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
    /// Derived files.
    pub derived: Totals,
    /// Scratch: that of keys that have a build, and all other where that is wished for.
    pub scratch: Totals,
    /// Scratch that stays.
    pub scratch_left: Totals,
    /// Bytes that cannot go: what runs, lock files and running processes need.
    pub rooted: u64,
    /// What stays for whom.
    pub kept: Vec<Kept>,
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

/// The right to remove things: while it is held nobody finds an output in the store, and nobody begins to use one.
#[derive(Debug)]
pub struct Removing<'s> {
    store: &'s Store,
    _gate: Gate,
}

/// The files that go.
#[derive(Debug, Clone, Default)]
struct Sweep {
    records: Vec<(Digest, u32)>,
    published: BTreeSet<Digest>,
    trees: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
    scratch: Vec<Digest>,
    derived: Vec<String>,
}

impl Store {
    /// What [`Removing::collect`] would remove now; nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::Unaccountable`] when a record or tree is damaged, or the store cannot be read.
    pub fn removals(&self, wish: &Wish) -> Result<Removals> {
        // Before the last outputs of runs: a run drops its lease last. Whoever reads locks for a wish reads leases before them,
        // for the same reason; this is for who does not.
        let leases = self.leases()?;
        if self.is_of_older_format() {
            // It is open for reading only, and what its past runs keep is not found.
            return Err(StoreError::Older(self.layout().root().to_owned()));
        }
        let reader = self.as_reader();
        let census = reader.census()?;
        let mut damage = census.all_damage();
        damage.extend(reader.misplaced()?);
        if !damage.is_empty() {
            return Err(StoreError::Unaccountable(damage));
        }
        let mut holders = wish.holders.clone();
        for (run, stages) in &census.runs {
            let last = stages.values().flat_map(|last| last.outputs.values().copied());
            match holders.iter_mut().rev().find(|holder| holder.run.as_ref() == Some(run)) {
                Some(newest) => newest.trees.extend(last),
                None => holders.push(Holder { name: run.clone(), trees: last.collect(), ..Holder::default() }),
            }
        }
        for lease in leases {
            let name = lease.holder_name();
            match holders.iter_mut().find(|holder| holder.name == name) {
                Some(holder) => holder.trees.extend(lease.trees),
                None => holders.push(Holder { name, trees: lease.trees, ..Holder::default() }),
            }
        }
        Ok(Marked::new(&census, &holders).removals(wish))
    }

    /// Waits until nobody looks for an output or takes one into the store, and keeps it so. What is to stay has to be found
    /// out after this: before, a run that ends may write down more.
    ///
    /// # Errors
    /// When the store is open for reading only, or the file system has no locks.
    pub fn removing(&self) -> Result<Removing<'_>> {
        Ok(Removing { store: self, _gate: self.exclusive_gate()? })
    }
}

impl Removing<'_> {
    /// Removes what is wished for; what went.
    ///
    /// # Errors
    /// As [`Store::removals`], and when something cannot be removed; what went before is gone, and the store works.
    pub fn collect(&self, wish: &Wish) -> Result<Removals> {
        let removals = self.store.removals(wish)?;
        self.remove(&removals)?;
        Ok(removals)
    }

    /// Removes what [`Store::removals`] found since nobody looks for outputs any more.
    ///
    /// # Errors
    /// When something cannot be removed; what went before is gone, and the store works.
    pub fn remove(&self, removals: &Removals) -> Result<()> {
        let (store, plan) = (self.store, &removals.plan);
        for (key, build) in &plan.records {
            failpoint::pass("gc-before-record");
            // What a key gave stays on record when its bytes are gone, so that other bytes are seen.
            store.write_off(*key, *build)?;
            // Other builds of the key keep the folder.
            let _ = fs::remove_dir(store.layout().records(*key));
        }
        for tree in &plan.published {
            failpoint::pass("gc-before-published");
            store.unpublish(*tree)?;
        }
        for tree in &plan.trees {
            failpoint::pass("gc-before-tree");
            remove_file(&store.layout().tree(*tree))?;
        }
        for blob in &plan.blobs {
            failpoint::pass("gc-before-blob");
            remove_file(&store.layout().blob(*blob))?;
        }
        for key in &plan.scratch {
            // A key that is being built again has its lock held, and its scratch is in use.
            if let Some(lock) = store.lock(*key, &HolderInfo::this("gc"))? {
                store.clear_work(&lock)?;
            }
        }
        for entry in &plan.derived {
            let path = store.layout().folder("derived").join(entry);
            // One that is being made stays.
            store.derived().remove(entry).map_err(StoreError::io("remove", &path))?;
        }
        let damaged = store.layout().folder("damaged");
        for entry in fs::read_dir(&damaged).into_iter().flatten().flatten() {
            failpoint::pass("gc-before-aside");
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
    roots: BTreeSet<Digest>,
    /// Their blobs.
    rooted: BTreeSet<Digest>,
    /// Builds that may go, together where they gave the same: one of them alone would free nothing.
    loose: Vec<Group>,
    /// The blobs that builds name.
    named: BTreeSet<Digest>,
    /// For whom what must stay does.
    kept: Vec<Kept>,
}

impl<'c> Marked<'c> {
    fn new(census: &'c Census, holders: &[Holder]) -> Self {
        let roots: BTreeSet<_> = holders.iter().flat_map(|holder| holder.trees.iter().copied()).collect();
        let mut holding: BTreeMap<Digest, usize> = BTreeMap::new();
        let held: Vec<BTreeSet<Digest>> = holders
            .iter()
            .map(|holder| census.blobs_of(&holder.trees).union(&holder.blobs).copied().collect())
            .collect();
        held.iter().flatten().for_each(|blob| *holding.entry(*blob).or_default() += 1);
        let kept = holders.iter().zip(&held).map(|(holder, blobs)| Kept {
            by: holder.name.clone(),
            bytes: census.bytes_of(blobs),
            alone: census.bytes_of(blobs.iter().filter(|blob| holding.get(blob) == Some(&1))),
        });
        let kept = kept.collect();
        let rooted: BTreeSet<Digest> = holding.into_keys().collect();
        let mut alike: BTreeMap<&BTreeMap<String, Digest>, Vec<(Digest, u32)>> = BTreeMap::new();
        for (build, record) in &census.builds {
            alike.entry(&record.outputs).or_default().push(*build);
        }
        let mut loose = Vec::new();
        let mut named = BTreeSet::new();
        for (outputs, builds) in alike {
            let blobs = census.blobs_of(outputs.values());
            named.extend(blobs.iter().copied());
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
        loose.sort_by(|one, other| one.builds.cmp(&other.builds));
        Self { census, roots, rooted, loose, named, kept }
    }

    fn removals(&self, wish: &Wish) -> Removals {
        let census = self.census;
        let before = census.all_blobs().bytes;
        let orphans: BTreeSet<_> = census.blobs.keys().filter(|blob| self.is_orphan(blob)).copied().collect();
        let mut removals = Removals {
            before,
            after: before - census.bytes_of(&orphans),
            orphans: Totals { count: orphans.len() as u64, bytes: census.bytes_of(&orphans) },
            aside: census.all_aside(),
            derived: census.all_derived(),
            rooted: census.bytes_of(&self.rooted),
            kept: self.kept.clone(),
            ..Removals::default()
        };
        let built: BTreeSet<_> = census.builds.keys().map(|(key, _)| *key).collect();
        let (scratch, left): (Vec<_>, Vec<_>) =
            census.scratch.iter().partition(|(key, _)| wish.scratch || built.contains(*key));
        removals.scratch = Totals::of(scratch.iter().map(|(_, bytes)| **bytes));
        removals.scratch_left = Totals::of(left.iter().map(|(_, bytes)| **bytes));
        removals.plan.scratch = scratch.into_iter().map(|(key, _)| *key).collect();
        removals.plan.derived = census.derived.keys().cloned().collect();
        removals.plan.blobs = orphans;
        if let Some(keep) = wish.keep_size {
            self.make_room(keep, &mut removals);
        }
        let gone: BTreeSet<_> = removals.plan.records.iter().collect();
        let kept = census.builds.iter().filter(|(build, _)| !gone.contains(build));
        let named: BTreeSet<_> = kept.flat_map(|(_, record)| record.outputs.values()).copied().collect();
        let needless = |tree: &&Digest| !named.contains(*tree) && !self.roots.contains(*tree);
        removals.plan.published = census.published.difference(&self.roots).copied().collect();
        removals.plan.trees = census.trees.keys().filter(needless).copied().collect();
        removals
    }

    /// Adds builds, the cheapest first, until no more than `keep` bytes are left.
    fn make_room(&self, keep: u64, removals: &mut Removals) {
        let mut prices = Prices::new(self.census, &self.loose, &self.rooted);
        while removals.after > keep {
            let Some((group, free, bytes)) = prices.take() else { break };
            removals.plan.blobs.extend(free);
            removals.after -= bytes;
            for (left, build) in
                group.builds.iter().enumerate().map(|(number, build)| (group.builds.len() - 1 - number, build))
            {
                let record = &self.census.builds[build];
                removals.plan.records.push(*build);
                removals.builds.push(RemovedBuild {
                    key: build.0,
                    build: build.1,
                    kind: record.kind.clone(),
                    started: record.started,
                    seconds: record.seconds,
                    // What builds share is free when the last of them goes.
                    bytes: if left == 0 { bytes } else { 0 },
                });
            }
        }
    }

    fn is_orphan(&self, blob: &Digest) -> bool {
        !self.named.contains(blob) && !self.rooted.contains(blob)
    }
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(StoreError::io("remove", path)),
    }
}
