//! The inventory of a store: every record, tree and blob, and everything else that uses disk space.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use contract::{Digest, Tree};
use serde::Serialize;

use crate::store::files::{names, size_of};
use crate::store::{Damage, LastBuild, LockState, Object, Record, Result, Store, StoreError};

/// Everything in a store at one moment.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Builds by key and number.
    pub builds: BTreeMap<(Digest, u32), Record>,
    /// The undamaged trees.
    pub trees: BTreeMap<Digest, Tree>,
    /// The size of each blob's file, in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// The trees that are published by name.
    pub published: BTreeSet<Digest>,
    /// The last builds, by run and stage.
    pub runs: BTreeMap<String, BTreeMap<String, LastBuild>>,
    /// The size of each key's scratch, from which a stopped stage resumes, in bytes; without keys that are being built.
    pub scratch: BTreeMap<Digest, u64>,
    /// The size of each set of derived files, in bytes.
    pub derived: BTreeMap<String, u64>,
    /// Damaged objects that were moved aside, with their size in bytes.
    pub aside: Vec<(PathBuf, u64)>,
    /// Unreadable records and trees.
    pub damage: Vec<Damage>,
}

/// The number of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// The total size, in bytes.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl<'s> FromIterator<&'s u64> for Totals {
    fn from_iter<I: IntoIterator<Item = &'s u64>>(sizes: I) -> Self {
        let add = |Self { count, bytes }, size: &u64| Self { count: count + 1, bytes: bytes + size };
        sizes.into_iter().fold(Self::default(), add)
    }
}

impl Inventory {
    /// Returns the blobs of the given trees.
    pub fn blobs_of<'c>(&'c self, trees: impl IntoIterator<Item = &'c Digest>) -> BTreeSet<Digest> {
        let trees = trees.into_iter().filter_map(|tree| self.trees.get(tree));
        trees.flat_map(|tree| tree.entries().iter().map(|entry| entry.digest)).collect()
    }

    /// Returns unreadable records and trees, and missing trees of builds and runs.
    pub(super) fn all_damage(&self) -> Vec<Damage> {
        let is_known = |tree: &Digest| self.damage.iter().any(|damage| damage.object == Object::Tree(*tree));
        let missing = self.lost_trees().into_iter().filter(|tree| !is_known(tree));
        self.damage.iter().cloned().chain(missing.map(|tree| Object::Tree(tree).missing())).collect()
    }

    /// Returns the trees of builds and of last builds that are damaged or missing.
    pub(super) fn lost_trees(&self) -> BTreeSet<Digest> {
        let built = self.builds.values().flat_map(|record| record.outputs.values());
        let last = self.runs.values().flat_map(|stages| stages.values()).flat_map(|last| last.outputs.values());
        built.chain(last).filter(|tree| !self.trees.contains_key(tree)).copied().collect()
    }

    /// Returns the totals of all damaged objects that were moved aside.
    pub fn all_aside(&self) -> Totals {
        self.aside.iter().map(|(_, bytes)| bytes).collect()
    }

    /// Returns the total size of the given blobs, in bytes.
    pub fn bytes_of<'c>(&self, blobs: impl IntoIterator<Item = &'c Digest>) -> u64 {
        blobs.into_iter().filter_map(|blob| self.blobs.get(blob)).sum()
    }
}

impl Store {
    /// Lists everything, reading records and trees but no blob. Damage is part of the result, not an error.
    pub fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory::default();
        for key in self.builds.keys()? {
            let builds = self.builds.of(key)?;
            inventory.builds.extend(builds.records.into_iter().map(|(number, record)| ((key, number), record)));
            inventory.damage.extend(builds.damage);
        }
        // References are read before the objects they name, because runs continue meanwhile.
        for run in self.runs.names()? {
            let stages = self.builds.last_builds(&run)?;
            inventory.runs.insert(run, stages);
        }
        for (digest, _) in self.objects.list("trees")? {
            match self.objects.tree(digest) {
                Ok(tree) => drop(inventory.trees.insert(digest, tree)),
                Err(StoreError::Damaged(damage)) => inventory.damage.push(damage),
                Err(error) => return Err(error),
            }
        }
        inventory.blobs = self.objects.list("blobs")?;
        inventory.published = self.objects.list("published")?.into_keys().collect();
        for name in names(&self.layout().dir("work"))? {
            let Ok(key) = name.parse::<Digest>() else { continue };
            if self.work.lock_state(key)? == LockState::Free {
                inventory.scratch.insert(key, self.work.scratch_bytes(Some(key)));
            }
        }
        let derived = self.objects.derived().entries();
        inventory.derived = derived.into_iter().map(|entry| (entry.name, entry.bytes)).collect();
        let aside = self.layout().dir("damaged");
        let sized = |name: String| (aside.join(&name), size_of(&aside.join(&name)));
        inventory.aside = names(&aside)?.into_iter().map(sized).collect();
        Ok(inventory)
    }
}
