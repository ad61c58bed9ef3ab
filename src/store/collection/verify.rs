//! Verification: every blob is hashed, even if its seal is intact. In a writable store it also repairs: damaged objects are moved aside,
//! trees that the caller knows are restored, and builds that are incomplete as a result move to the ledger, so that the next verification
//! finds nothing. Damaged derived files are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;

use contract::{Digest, Tree};

use super::Inventory;
use crate::store::builds::STAGES;
use crate::store::files::names;
use crate::store::layout::DIRS;
use crate::store::runs::{LATEST, LOCK, number};
use crate::store::{Damage, Fault, Object, Result, Store, StoreError, failpoint, file_name};

/// The result of [`Store::verify_all`].
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// The store as it was listed.
    pub inventory: Inventory,
    /// The number of blobs that were hashed.
    pub blobs: u64,
    /// The number of bytes that were hashed.
    pub bytes: u64,
    /// Everything that is damaged or missing, without duplicates.
    pub damage: Vec<Damage>,
    /// The damaged or missing trees that were restored.
    pub restored: BTreeSet<Digest>,
    /// The builds that are incomplete as a result, by key and number.
    pub builds: BTreeSet<(Digest, u32)>,
}

impl Store {
    /// Hashes every blob, reads every tree and record, and checks that the objects they name exist. A read-only store only reports. A
    /// writable one moves damaged objects aside, restores trees that are in `known`, and moves incomplete builds to the ledger, so that the
    /// next run rebuilds what it needs. `piece` receives the number of bytes of each piece that was read; returning false stops the work
    /// with [`StoreError::Interrupted`].
    pub fn verify_all(
        &self,
        known: &BTreeMap<Digest, Tree>,
        mut piece: impl FnMut(u64) -> bool,
    ) -> Result<Verification> {
        // Nothing is removed meanwhile, so a missing object is really missing.
        let _guard = self.leases.guard()?;
        let mut inventory = self.inventory()?;
        let mut verification = Verification { damage: inventory.all_damage(), ..Verification::default() };
        if self.is_writable() {
            for tree in inventory.lost_trees().iter().filter_map(|tree| known.get(tree)) {
                failpoint::pass("repair-before-restore");
                let digest = self.objects.write_tree(tree)?;
                inventory.trees.insert(digest, tree.clone());
                verification.restored.insert(digest);
            }
        }
        let mut damaged = BTreeSet::new();
        // The length of a blob without a tree is unknown.
        let entries = inventory.trees.values().flat_map(|tree| tree.entries());
        let sizes: BTreeMap<Digest, u64> = entries.map(|entry| (entry.digest, entry.size)).collect();
        for (digest, size) in &inventory.blobs {
            match self.objects.rehash_blob(*digest, *sizes.get(digest).unwrap_or(size), &mut piece) {
                Ok(()) => {}
                Err(StoreError::Damaged(damage)) => {
                    damaged.insert(*digest);
                    verification.damage.push(damage);
                }
                Err(error) => return Err(error),
            }
            verification.blobs += 1;
            verification.bytes += size;
        }
        let mut missing = BTreeSet::new();
        for (build, record) in &inventory.builds {
            let is_listed = record.outputs.values().all(|tree| inventory.trees.contains_key(tree));
            let blobs = inventory.blobs_of(record.outputs.values());
            missing.extend(blobs.iter().filter(|blob| !inventory.blobs.contains_key(*blob)));
            if !is_listed || !blobs.is_disjoint(&damaged) || !blobs.is_disjoint(&missing) {
                verification.builds.insert(*build);
            }
        }
        self.verify_derived(&inventory, &mut verification, piece)?;
        verification.damage.extend(missing.into_iter().map(|blob| Object::Blob(blob).missing()));
        if self.is_writable() {
            self.drop_incomplete(&inventory, &mut verification)?;
        }
        verification.inventory = inventory;
        Ok(verification)
    }

    fn verify_derived(
        &self,
        inventory: &Inventory,
        verification: &mut Verification,
        mut piece: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        let derived = self.objects.derived();
        for (name, bytes) in &inventory.derived {
            let path = self.layout().dir("derived").join(name);
            let damaged = derived.damaged(name, &mut piece).map_err(StoreError::io("read", &path))?;
            let damaged = damaged.ok_or(StoreError::Interrupted)?;
            verification.bytes += bytes;
            if self.is_writable() && !damaged.is_empty() {
                derived.remove(name).map_err(StoreError::io("remove", &path))?;
            }
            verification.damage.extend(damaged.into_iter().map(|(path, found)| {
                let fault = found.map_or(Fault::Missing, |found| Fault::Content { found });
                Damage { object: Object::File(path), fault, aside: None }
            }));
        }
        Ok(())
    }

    /// Moves incomplete builds to the ledger, and moves last builds whose trees are lost aside.
    fn drop_incomplete(&self, inventory: &Inventory, verification: &mut Verification) -> Result<()> {
        for (key, number) in std::mem::take(&mut verification.builds) {
            // A run may have built it again since the inventory.
            if self.builds.trees_of(&inventory.builds[&(key, number)])?.1.is_empty() {
                continue;
            }
            failpoint::pass("repair-before-record");
            self.builds.move_to_ledger(key, number)?;
            verification.builds.insert((key, number));
        }
        for (run, stages) in &inventory.runs {
            for (stage, last) in stages {
                let is_lost = |tree: &Digest| !inventory.trees.contains_key(tree) && self.objects.tree(*tree).is_err();
                // A run may have replaced the last build since the inventory.
                if !last.outputs.values().any(is_lost) || self.builds.last_build(run, stage)?.as_ref() != Some(last) {
                    continue;
                }
                failpoint::pass("repair-before-last-build");
                match self.root.move_aside(&self.builds.last_build_path(run, stage)?) {
                    // Another process is repairing the store as well.
                    Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                    moved => drop(moved?),
                }
            }
        }
        Ok(())
    }

    /// Finds files and dangling links in place of the store's directories, and anything of the wrong type in place of its locks, indexes
    /// and links; moves them aside if the store is writable. A link to a directory counts as a directory. Other names are ignored.
    pub fn misplaced(&self) -> Result<Vec<Damage>> {
        let layout = self.layout();
        let is_key = |name: &str| name.parse::<Digest>().is_ok();
        let is_prefix = |name: &str| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let named = |dir: &str, is_ours: &dyn Fn(&str) -> bool| -> Result<Vec<PathBuf>> {
            let dir = layout.dir(dir);
            Ok(names(&dir)?.iter().filter(|name| is_ours(name)).map(|name| dir.join(name)).collect())
        };
        let mut dirs: Vec<_> = DIRS.iter().map(|name| layout.dir(name)).collect();
        for dir in ["blobs", "trees", "published"] {
            dirs.extend(named(dir, &is_prefix)?);
        }
        for dir in ["records", "ledger", "work"] {
            dirs.extend(named(dir, &is_key)?);
        }
        let mut files = named("locks", &is_key)?;
        files.push(layout.gate());
        files.extend(layout.indexes());
        let mut links = Vec::new();
        for run in named("runs", &|name| file_name(name).is_ok())? {
            let numbers = names(&run)?.into_iter().filter(|name| number(name).is_some());
            dirs.extend(numbers.map(|name| run.join(name)));
            dirs.push(run.join(STAGES));
            files.push(run.join(LOCK));
            links.push(run.join(LATEST));
            dirs.push(run);
        }
        let found = |path: &PathBuf| path.symlink_metadata().ok().map(|found| found.file_type());
        dirs.retain(|path| found(path).is_some() && !path.is_dir());
        files.retain(|path| found(path).is_some_and(|found| !found.is_file()));
        links.retain(|path| found(path).is_some_and(|found| !found.is_symlink()));
        let groups = [(dirs, "it is not a directory"), (files, "it is not a file"), (links, "it is not a link")];
        let damage = |(paths, what): (Vec<PathBuf>, &'static str)| {
            paths
                .into_iter()
                .map(move |path| self.root.damage(Object::File(path.clone()), Fault::Format(what.to_owned()), &path))
        };
        groups.into_iter().flat_map(damage).collect()
    }
}
